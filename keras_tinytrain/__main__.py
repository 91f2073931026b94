"""`python -m keras_tinytrain` is `keras-tinytrain`."""

import sys

from keras_tinytrain.cli import main

sys.exit(main())
