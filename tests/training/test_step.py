"""One optimizer step: two groups, two clips, nothing done if a number is not finite, and the place of that number."""

import math
import random

import pytest
import torch
from torch import nn

from models.build import build_model, fill_in_sizes
from training.step import (
    LossModule,
    anomaly_detection,
    build_optimizer,
    clip_gradients,
    freeze_encoder,
    schedule_learning_rate,
    training_step,
)
from utils.errors import UserError
from utils.loss_entry import LossTerms, get_loss_function

LIMITS = {'encoder': 1.0, 'progress_head': 1.0}
WIDTH = 3


class TinyModel(nn.Module):
    """An encoder and a head of one layer each."""

    def __init__(self, with_head=True):
        super().__init__()
        self.encoder = nn.Linear(WIDTH, 2)
        if with_head:
            self.progress_head = nn.Linear(2, 1)

    def forward(self, videos):
        return {'outputs': [self.encoder(video) for video in videos], 'progress_head': self.progress_head}


def tiny_step(encoder_factor, head_factor, steps=1, constant=0.0):
    """Take steps whose loss pulls on encoder and head with these factors."""
    torch.manual_seed(0)
    model = TinyModel()
    optimizer = build_optimizer(model, 0.1)

    def loss_fn(output, epoch, times):
        assert (epoch, times) == (4, [{'name': 'a'}])
        total = encoder_factor * model.encoder.weight.sum() + head_factor * model.progress_head.weight.sum()
        return LossTerms({'total_loss': total + constant}, [])

    module = LossModule(model, loss_fn)
    results = [training_step(module, optimizer, [torch.ones(5, WIDTH)], [{'name': 'a'}], 4, LIMITS)
               for _ in range(steps)]
    return model, optimizer, results


@pytest.mark.parametrize(('head_rate', 'expected'), [(None, 1e-3), (5e-2, 5e-2)])
def test_the_head_is_a_group_of_its_own(head_rate, expected):
    model = TinyModel()
    optimizer = build_optimizer(model, 1e-3, head_rate)
    assert [(group['name'], group['lr']) for group in optimizer.param_groups] == [('encoder', 1e-3),
                                                                                 ('progress_head', expected)]
    assert [id(weight) for group in optimizer.param_groups for weight in group['params']] == [
        id(weight) for weight in model.parameters()]
    assert [len(group['params']) for group in optimizer.param_groups] == [2, 2]


def descend(weight_decay, optimizer=None, steps=5):
    """Take steps down the same slopes with build_optimizer's optimizer, or another, and return the weights."""
    torch.manual_seed(0)
    model = TinyModel()
    optimizer = optimizer(model.parameters()) if optimizer else build_optimizer(model, 0.1, weight_decay=weight_decay)
    for _ in range(steps):
        optimizer.zero_grad()
        model.progress_head(model.encoder(torch.randn(4, WIDTH))).square().sum().backward()
        optimizer.step()
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_without_weight_decay_it_is_adam():
    assert torch.equal(descend(0.0), descend(0.0, lambda weights: torch.optim.Adam(weights, lr=0.1, fused=True)))
    torch.testing.assert_close(descend(0.0), descend(0.0, lambda weights: torch.optim.Adam(weights, lr=0.1)))
    assert build_optimizer(TinyModel(), 1e-3).param_groups[0]['weight_decay'] == 0


def test_weight_decay_takes_a_share_of_the_weights_away():
    one_step, decayed = descend(0.0, steps=1), descend(0.25, steps=1)
    torch.manual_seed(0)
    weights = torch.cat([weight.detach().flatten() for weight in TinyModel().parameters()])
    torch.testing.assert_close(one_step - decayed, 0.1 * 0.25 * weights)


def scheduled(schedule, epochs, num_epochs=10):
    """Learning rates of both groups in some epochs."""
    optimizer = build_optimizer(TinyModel(), 0.8, 0.2)
    rates = []
    for epoch in epochs:
        schedule_learning_rate(optimizer, schedule, epoch, num_epochs)
        rates.append([group['lr'] for group in optimizer.param_groups])
    return rates


def test_the_cosine_schedule_falls_from_the_learning_rate_to_almost_nothing():
    rates = scheduled('cosine', range(10))
    assert rates[0] == [0.8, 0.2]
    assert rates[5] == pytest.approx([0.4, 0.1])
    assert rates[9] == pytest.approx([0.8 * (1 - math.cos(math.pi / 10)) / 2, 0.2 * (1 - math.cos(math.pi / 10)) / 2])
    for before, after in zip(rates, rates[1:], strict=False):
        assert all(0 < later < earlier for earlier, later in zip(before, after, strict=True))
    assert scheduled('cosine', [7, 2, 7])[2] == rates[7]  # of the epoch alone, whatever was before


def test_the_constant_schedule_is_constant():
    assert scheduled('constant', range(3)) == [[0.8, 0.2]] * 3
    assert scheduled('cosine', [0], num_epochs=1) == [[0.8, 0.2]]


def test_without_a_head_there_is_one_group():
    optimizer = build_optimizer(TinyModel(with_head=False), 1e-3)
    assert [(group['name'], len(group['params'])) for group in optimizer.param_groups] == [('encoder', 2)]


@pytest.mark.parametrize(('encoder', 'head', 'encoder_norm', 'head_norm'), [
    (1e6, 0.1, 1.0, 0.1 * math.sqrt(2)), (0.1, 1e6, 0.1 * math.sqrt(6), 1.0),
    (1e-3, 1e-3, 1e-3 * math.sqrt(6), 1e-3 * math.sqrt(2))])
def test_a_giant_gradient_of_one_group_does_not_shrink_the_others(encoder, head, encoder_norm, head_norm):
    model, _, [result] = tiny_step(encoder, head)
    assert result.taken
    assert model.encoder.weight.grad.norm().item() == pytest.approx(encoder_norm, rel=1e-4)
    assert model.progress_head.weight.grad.norm().item() == pytest.approx(head_norm, rel=1e-4)


def test_limits_are_per_group():
    model = TinyModel()
    optimizer = build_optimizer(model, 1e-3)
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 100.0)
    before = {name: math.hypot(*(weight.grad.norm().item() for weight in part.parameters()))
              for name, part in (('encoder', model.encoder), ('progress_head', model.progress_head))}
    assert clip_gradients(optimizer, {'encoder': 0.5, 'progress_head': 2.0}) == pytest.approx(before, rel=1e-4)
    for part, limit in ((model.encoder, 0.5), (model.progress_head, 2.0)):
        norm = math.hypot(*(weight.grad.norm().item() for weight in part.parameters()))
        assert norm == pytest.approx(limit, rel=1e-4)
    model.progress_head.bias.grad[0] = math.nan
    norms = clip_gradients(optimizer, LIMITS)
    assert math.isfinite(norms['encoder']) and math.isnan(norms['progress_head'])


def test_gradients_do_not_add_up_over_steps():
    model, _, _ = tiny_step(0.01, 0.01, steps=3)
    assert torch.allclose(model.encoder.weight.grad, torch.full((2, WIDTH), 0.01))


@pytest.mark.parametrize('factors', [(math.nan, 1.0, 0.0), (1.0, math.inf, 0.0), (1e39, 1.0, 0.0),
                                     (1.0, 1.0, math.nan), (1.0, 1.0, -math.inf)])  # the last two have finite gradients
def test_a_loss_that_is_not_finite_takes_no_step(factors):
    encoder_factor, head_factor, constant = factors
    model, optimizer, results = tiny_step(encoder_factor, head_factor, 2, constant)
    torch.manual_seed(0)
    for weight, untouched in zip(model.parameters(), TinyModel().parameters(), strict=True):
        assert torch.equal(weight, untouched)
    assert [result.taken for result in results] == [False, False] and not optimizer.state


def test_a_gradient_that_is_not_finite_takes_no_step():
    model = TinyModel()
    before = [weight.clone() for weight in model.parameters()]

    def loss_fn(output, epoch, times):
        return LossTerms({'total_loss': (model.progress_head.weight * 0).sum().sqrt()}, [])  # 0, of infinite slope

    result = training_step(LossModule(model, loss_fn), build_optimizer(model, 0.1), [torch.ones(5, WIDTH)], [], 0,
                           LIMITS)
    assert result.terms['total_loss'] == 0 and not result.taken
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def make_small(config, loss, mcn, architecture='naive'):
    """Choose the smallest network of a loss, with a progress head."""
    config.LOSS_TYPE[loss] = True
    config.BASEARCH.update(ARCHITECTURE=architecture)
    config.BASEARCH.NAIVE_ARCH.layers = [4]
    config.OUTPUT_DIMENSIONALITY = 4
    config.ARCHITECTURE.update(MCN=mcn, attn_layers=[4], drop_layers=[4])
    config.PROGRESS_LOSS.enabled = True
    fill_in_sizes(config, WIDTH, 2)


@pytest.mark.parametrize('use_gru', [True, False])
@pytest.mark.parametrize('mcn', [True, False])
def test_a_step_moves_head_and_encoder(config, mcn, use_gru):
    """The plan's fourth verification step: gradients flow through the progress head during training."""
    make_small(config, 'GTCC', mcn)
    config.PROGRESS_LOSS.use_gru = use_gru
    torch.manual_seed(0)
    model = build_model(config)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    times = [{'step': ['cut'], 'start_frame': [2], 'end_frame': [9], 'name': name} for name in 'ab']
    terms, taken, _ = training_step(LossModule(model, get_loss_function(config)), build_optimizer(model, 1e-2),
                                 [torch.randn(12, WIDTH), torch.randn(14, WIDTH)], times, 0, LIMITS)
    assert taken and {'GTCC_loss', 'progress_loss'} <= terms.present
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    for part in ('progress_head.gru', 'progress_head.fc') if use_gru else ('progress_head.fc',):
        assert any(name.startswith(part) for name in moved)
    assert {name for name in before if name.startswith('progress_head.fc')} <= moved
    assert any('progress_head' not in name for name in moved)


def test_amp_computes_the_network_in_bf16_in_training_and_nothing_else(config):
    make_small(config, 'GTCC', mcn=True)
    model, seen = build_model(config), {}

    def loss_fn(output, epoch, times):
        seen.update({name: [tensor.dtype for tensor in value] for name, value in output.items()
                     if name != 'progress_head'})
        assert output['progress_head'] is model.progress_head and not torch.is_autocast_enabled('cpu')
        return LossTerms({'total_loss': sum(video.sum() for video in output['outputs'])}, [])

    model.base_model.fc_layers[0].register_forward_hook(lambda layer, given, result: seen.update(layer=result.dtype))
    module = LossModule(model, loss_fn, amp=True)
    for mode, layer in ((True, torch.bfloat16), (False, torch.float32)):
        module.train(mode)([torch.randn(12, WIDTH), torch.randn(14, WIDTH)], [], 0)['total_loss'].backward()
        assert seen == {'layer': layer, 'outputs': [torch.float32] * 2, 'attentions': [torch.float32] * 2,
                        'dropouts': [torch.float32] * 2}
    assert all(weight.dtype == torch.float32 for weight in model.parameters())


@pytest.mark.parametrize('architecture', ['naive', 'temporal_stacking', 'recurrent', 'short_memory', 'resnet50',
                                          'identity'])
def test_gradients_with_amp_are_those_without_but_for_rounding(config, architecture):
    make_small(config, 'LAV', mcn=True, architecture=architecture)
    videos = [torch.randn(length, WIDTH, *((3, 3) if architecture == 'resnet50' else ())) for length in (12, 14)]
    times = [{'step': ['cut'], 'start_frame': [2], 'end_frame': [9], 'name': name} for name in 'ab']
    gradients = []
    for amp in (False, True):
        torch.manual_seed(0)
        random.seed(0)
        model = build_model(config).train()
        LossModule(model, get_loss_function(config), amp=amp)(videos, times, 0)['total_loss'].backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
    exact, rounded = gradients
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.05 * float(exact.norm()))


@pytest.mark.parametrize('loss', ['tcc', 'LAV', 'VAVA', 'GTCC'])
@pytest.mark.parametrize(('architecture', 'mcn', 'frozen'), [('naive', True, True), ('naive', False, True),
                                                             ('identity', False, False)])
def test_a_frozen_encoder_stays_while_the_head_learns(config, loss, architecture, mcn, frozen):
    make_small(config, loss, mcn, architecture)
    torch.manual_seed(0)
    model = build_model(config)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    if frozen:
        freeze_encoder(model)
    module = LossModule(model, get_loss_function(config))
    optimizer = build_optimizer(model, 1e-2, weight_decay=0.1)
    videos = [torch.randn(length, WIDTH) for length in (12, 14)]
    action, background = ({'step': [step], 'start_frame': [2], 'end_frame': [9], 'name': 'a'} for step in ('cut', '0'))
    terms, taken, _ = training_step(module, optimizer, videos, [action, action], 0, LIMITS)
    assert taken and {f'{loss}_loss', 'progress_loss'} <= terms.present
    # One recording has no alignment term, background no progress term: zeros that can still be passed back.
    for count, times in ((1, action), (2, background), (1, background)):
        assert training_step(module, optimizer, videos[:count], [times] * count, 0, LIMITS).taken
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    head = {name for name in before if name.startswith('progress_head.')}
    assert head <= moved
    assert moved == head or not frozen


class SquareRoot(nn.Module):
    def forward(self, values):
        return values.sqrt()


def network():
    return nn.Sequential(nn.Linear(2, 2), SquareRoot(), nn.ReLU())


def test_the_first_layer_that_gives_no_number_is_named():
    model = network()
    nn.init.constant_(model[0].weight, -1.0)
    with pytest.raises(UserError, match=r'layer 1 \(SquareRoot\) returns NaN or infinity in the step on rec0 of tea'):
        with anomaly_detection(model, 'rec0 of tea'):
            model(torch.ones(3, 2))


@pytest.mark.filterwarnings('ignore:Error detected in')
def test_a_gradient_that_is_no_number_is_traced_to_its_function():
    model = network()
    for values in model[0].parameters():
        nn.init.zeros_(values)  # the square root of 0 is finite, its slope times 0 is not
    with pytest.raises(UserError, match="'SqrtBackward0' returned nan .*in the step on rec0.*traceback above"):
        with anomaly_detection(model, 'rec0'):
            (model(torch.ones(3, 2)) * 0).sum().backward()


def test_other_defects_pass_and_nothing_stays_behind():
    model = network()
    with pytest.raises(RuntimeError, match='shapes cannot be multiplied'), anomaly_detection(model, 'rec0'):
        model(torch.ones(3, 5))
    assert not torch.is_anomaly_enabled()
    assert not any(layer._forward_hooks for layer in model.modules())
    model(torch.full((1, 2), torch.nan))
