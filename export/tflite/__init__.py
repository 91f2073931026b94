"""Reading, converting and cutting .tflite files."""
