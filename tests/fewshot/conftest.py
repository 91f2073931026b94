"""The network and the task that tests of learning share."""

import pytest
from models import embedding_net, labelled_images


@pytest.fixture(scope="module")
def net():
    return embedding_net()


@pytest.fixture(scope="module")
def task(net):
    return labelled_images(net, per_class=4, classes=3)
