# The target TinyTrain::tinytrain_with_tflm: the runtime and your TensorFlow Lite Micro, where both variables name one.
#   TFLM_INCLUDE_DIRS   its include directories, those of flatbuffers and gemmlowp among them
#   TFLM_LIBRARY        its built library
if(TFLM_INCLUDE_DIRS AND TFLM_LIBRARY)
  add_library(tinytrain_with_tflm INTERFACE)
  target_include_directories(tinytrain_with_tflm SYSTEM INTERFACE ${TFLM_INCLUDE_DIRS})
  target_compile_features(tinytrain_with_tflm INTERFACE cxx_std_17)  # which its headers need
  target_link_libraries(tinytrain_with_tflm INTERFACE TinyTrain::tinytrain ${TFLM_LIBRARY})
  add_library(TinyTrain::tinytrain_with_tflm ALIAS tinytrain_with_tflm)
endif()
