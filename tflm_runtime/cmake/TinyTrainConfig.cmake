include(${CMAKE_CURRENT_LIST_DIR}/TinyTrainTargets.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/TinyTrainWithTflm.cmake)
