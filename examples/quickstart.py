"""Ten lines: adapt a Keras classifier to a few labelled samples by training only what a 256 KB microcontroller could train."""

import keras

from keras_tinytrain import Budget, TinyTrainCallback
from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.data import load_digits

digits = load_digits()
x, y, x_test, y_test = digits.images[:500], digits.labels[:500], digits.images[500:], digits.labels[500:]
model = keras.Sequential([NanoNet(), keras.layers.Dense(10, activation="softmax", name="digit")])
model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])

callback = TinyTrainCallback(Budget(memory="256KB", compute=0.15))
model.fit(x, y, batch_size=25, epochs=10, callbacks=[callback], verbose=0)

print(f"test accuracy {model.evaluate(x_test, y_test, verbose=0, return_dict=True)['accuracy']:.3f}")
callback.delta.save("digits.delta")
