"""Where do samples come from? Files, folders, public domains, and the few-shot tasks that are drawn from them."""

import typing

from keras_tinytrain._public import lazy_names

if typing.TYPE_CHECKING:
    from keras_tinytrain.data.camera import seen_by_camera
    from keras_tinytrain.data.digits import load_digits
    from keras_tinytrain.data.domain import Domain, every_second_class
    from keras_tinytrain.data.domain_by_name import load_domain
    from keras_tinytrain.data.episodes import Episode, sample_episode
    from keras_tinytrain.data.folder import load_folder
    from keras_tinytrain.data.motion import network_motion
    from keras_tinytrain.data.npz import load_npz
    from keras_tinytrain.data.resizing import resize
    from keras_tinytrain.data.samples import load_samples

_HOMES = {
    "Domain": "domain",
    "Episode": "episodes",
    "every_second_class": "domain",
    "load_digits": "digits",
    "load_domain": "domain_by_name",
    "load_folder": "folder",
    "load_npz": "npz",
    "load_samples": "samples",
    "network_motion": "motion",
    "resize": "resizing",
    "sample_episode": "episodes",
    "seen_by_camera": "camera",
}
__all__ = [
    "Domain",
    "Episode",
    "every_second_class",
    "load_digits",
    "load_domain",
    "load_folder",
    "load_npz",
    "load_samples",
    "network_motion",
    "resize",
    "sample_episode",
    "seen_by_camera",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
