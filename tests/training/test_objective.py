"""What a training minimises: each term, on which sources, under which names."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
import torch

from manifests.errors import RecipeError
from separators.network import Network, Outputs
from tests.separators.small_networks import conditioned_itdcn, conv_tasnet, mrx, mrxc, open_unmix, seeded
from tests.training.small_training import batches, gains
from training.losses import (
    Loss,
    activity_cross_entropy,
    guided_cross_entropy,
    l1_loss,
    magnitude_l1,
    magnitude_mse,
    mixture_consistency,
    mse_loss,
    multi_resolution_stft,
    negative_si_sdr,
    negative_snr,
)
from training.objective import Objective, source_groups
from training.recipe import LossRule

Tensor = torch.Tensor
THREE = ("a", "b", "c")


def rule(terms: Any, **more: Any) -> LossRule:
    return LossRule.model_validate({"terms": terms, **more})


def batch(targets: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return next(batches(targets, seed=seed))


def of_audio(name: str, mixtures: Tensor) -> Loss:
    return {
        "l1": l1_loss,
        "mse": mse_loss,
        "snr": functools.partial(negative_snr, max_snr_db=20.0, mixtures=mixtures),
        "si_sdr": functools.partial(negative_si_sdr, max_si_sdr_db=20.0),
        "stft": functools.partial(multi_resolution_stft, n_ffts=(32, 64)),
    }[name]


def term(name: str, **more: Any) -> dict[str, Any]:
    sizes = {"snr": {"max_db": 20.0}, "si_sdr": {"max_db": 20.0}, "stft": {"n_ffts": [32, 64]}}
    return {"name": name, **sizes.get(name, {}), **more}


AUDIO = pytest.mark.parametrize("name", ["l1", "mse", "snr", "si_sdr", "stft"])


@AUDIO
def test_sources_are_compared_with_the_targets_of_their_names(name: str) -> None:
    mixtures, targets = batch(3)
    network = gains(("c", "a", "b"), (0.2, 0.5, 0.7))
    losses, parts = Objective(network, rule(term(name)), THREE)(mixtures, targets)
    estimates = network(mixtures)[:, [1, 2, 0]]
    torch.testing.assert_close(losses, of_audio(name, mixtures)(estimates, targets))
    assert losses.shape == (2,)
    assert parts == {}


@AUDIO
def test_a_target_is_compared_with_the_sum_of_its_sources(name: str) -> None:
    mixtures, targets = batch(2)
    network = gains(("drums", "voice", "bass"), (0.2, 0.5, 0.7))
    objective = Objective(network, rule(term(name)), ("rest", "voice"), {"rest": ["bass", "drums"]})
    sources = network(mixtures)
    estimates = torch.stack([sources[:, 2] + sources[:, 0], sources[:, 1]], dim=1)
    losses = objective(mixtures, targets)[0]
    torch.testing.assert_close(losses, of_audio(name, mixtures)(estimates, targets))
    torch.testing.assert_close(objective.best(mixtures, targets), estimates)


@AUDIO
def test_targets_weigh_as_the_rule_says_and_the_scale_is_kept(name: str) -> None:
    mixtures, targets = batch(3)
    network = gains(THREE)
    estimates, loss = network(mixtures), of_audio(name, mixtures)
    weighted = Objective(network, rule(term(name), weights={"b": 2.0}), THREE)(mixtures, targets)[0]
    each = torch.stack([loss(estimates[:, n : n + 1], targets[:, n : n + 1]) for n in range(3)])
    torch.testing.assert_close(weighted, (each[0] + 2 * each[1] + each[2]) / 4)
    same = Objective(network, rule(term(name), weights={"a": 3.0, "b": 3.0, "c": 3.0}), THREE)
    torch.testing.assert_close(same(mixtures, targets)[0], loss(estimates, targets))


def test_a_target_without_a_source_is_not_compared() -> None:
    mixtures, targets = batch(3)
    objective = Objective(gains(("c", "a"), (0.3, 0.6)), rule("l1", weights={"c": 3.0}), THREE, {"b": []})
    assert objective.targets == ("a", "c")
    wanted = (0.6 * mixtures - targets[:, 0]).abs() / 4 + 3 * (0.3 * mixtures - targets[:, 2]).abs() / 4
    torch.testing.assert_close(objective(mixtures, targets)[0], wanted.mean(dim=(1, 2)))
    assert objective.best(mixtures, targets).shape == (2, 2, 2, 400)


def test_terms_add_up_by_their_weights_and_are_told() -> None:
    mixtures, targets = batch(2)
    network = gains(("a", "b"))
    objective = Objective(network, rule([term("snr"), term("stft", weight=0.1)]), ("a", "b"))
    losses, parts = objective(mixtures, targets)
    estimates = network(mixtures)
    for name in ("snr", "stft"):
        torch.testing.assert_close(parts[name], of_audio(name, mixtures)(estimates, targets))
        assert not parts[name].requires_grad
    torch.testing.assert_close(losses, parts["snr"] + 0.1 * parts["stft"])
    assert losses.requires_grad


@pytest.mark.parametrize(("name", "loss"), [("magnitude_l1", magnitude_l1), ("magnitude_mse", magnitude_mse)])
@pytest.mark.parametrize("residual", [None, "c"])
def test_magnitudes_are_compared_by_name_without_the_residual(name: str, loss: Loss, residual: str | None) -> None:
    mixtures, targets = batch(3)
    network = seeded(lambda: open_unmix(sources=("b", "a", "c"), residual=residual, hidden=4)).eval()
    objective = Objective(network, rule(name), THREE)
    found, wanted = network.magnitudes(mixtures), network.reference_magnitudes(targets[:, [1, 0, 2]])
    assert found.shape[1] == (3 if residual is None else 2)
    torch.testing.assert_close(objective.eval()(mixtures, targets)[0], loss(found, wanted))
    each = [loss(found[:, n : n + 1], wanted[:, n : n + 1]) for n in range(found.shape[1])]
    weighted = Objective(network, rule(name, weights={"a": 4.0}), THREE).eval()(mixtures, targets)[0]
    weights = [0.5, 2.0, 0.5][: len(each)]
    torch.testing.assert_close(weighted, sum(w * one for w, one in zip(weights, each, strict=True)) / len(each))


class Steps(Network):
    """Says the mixture halved, then a tenth less, and that everything is heard a little."""

    def forward(self, mixture: Tensor) -> Tensor:
        return self.outputs(mixture).sources

    def outputs(self, mixture: Tensor) -> Outputs:
        stack = mixture[:, None].expand(-1, len(self.sources), -1, -1)
        return Outputs(0.6 * stack, earlier=(0.5 * stack,))


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_earlier_iterations_count_for_less(weight: float) -> None:
    mixtures, targets = batch(2)
    network = Steps(gains(("a", "b")).config)
    losses = Objective(network, rule("mse", earlier=weight), ("a", "b"))(mixtures, targets)[0]
    stack = mixtures[:, None].expand(-1, 2, -1, -1)
    wanted = mse_loss(0.6 * stack, targets) + weight * mse_loss(0.5 * stack, targets)
    torch.testing.assert_close(losses, wanted)


@pytest.mark.parametrize("consistency", ["uniform", "energy"])
def test_estimates_are_made_to_sum_to_the_mixture(consistency: str) -> None:
    mixtures, targets = batch(2)
    network = gains(("b", "a"), (0.1, 0.4))
    objective = Objective(network, rule("l1", consistency=consistency), ("a", "b"))
    estimates = mixture_consistency(network(mixtures), mixtures, weights=consistency)[:, [1, 0]]
    torch.testing.assert_close(objective(mixtures, targets)[0], l1_loss(estimates, targets))
    torch.testing.assert_close(objective.best(mixtures, targets).sum(dim=1), mixtures)


def test_activities_are_of_the_source_of_the_name() -> None:
    mixtures, targets = batch(3)
    targets[:, 0, :, :200] = 0.0
    network = seeded(mrxc).eval()
    mono = mixtures[:, : network.channels], targets[:, :, : network.channels]
    names = (network.sources[2], network.sources[0], network.sources[1])
    losses, parts = Objective(network, rule(["snr", "activity"]), names).eval()(*mono)
    logits = network.outputs(mono[0]).activities
    assert logits is not None
    torch.testing.assert_close(parts["activity"], activity_cross_entropy(logits, mono[1][:, [1, 2, 0]]))
    torch.testing.assert_close(losses, parts["snr"] + parts["activity"])


@pytest.mark.parametrize(("assignment", "order"), [("fixed", [0, 1]), ("permutation", [1, 0])])
def test_a_guide_hears_the_targets_in_the_order_of_the_estimates(assignment: str, order: list[int]) -> None:
    network = seeded(conditioned_itdcn).eval()
    mixtures = 0.1 * torch.randn(2, network.channels, 16000, generator=torch.Generator().manual_seed(1))
    objective = Objective(network, rule(["snr", "guided"], assignment=assignment), network.sources).eval()
    with torch.no_grad():
        outputs = network.outputs(mixtures)
        targets = 0.9 * outputs.sources.flip(1)  # what it finds, in the other order
        parts = objective(mixtures, targets)[1]
        assert outputs.embeddings is not None
        heard = outputs.embeddings[:, [0, *(1 + number for number in order)]]
        torch.testing.assert_close(parts["guided"], guided_cross_entropy(heard, network.guides(targets)))


@AUDIO
def test_permutation_takes_the_best_order_for_each_mixture(name: str) -> None:
    mixtures, targets = batch(3)
    network = gains(THREE, (0.1, 0.5, 1.0))
    objective = Objective(network, rule(term(name), assignment="permutation"), ("x", "y", "z"))
    estimates, loss = network(mixtures), of_audio(name, mixtures)
    orders = list(itertools.permutations(range(3)))
    # of pairs one by one, as the assignment's cost is
    costs = torch.stack(
        [
            torch.stack([loss(estimates[:, [e]], targets[:, [t]]) for t, e in enumerate(order)]).mean(dim=0)
            for order in orders
        ]
    )
    torch.testing.assert_close(objective(mixtures, targets)[0], costs.min(dim=0).values)
    best = objective.best(mixtures, targets)
    for item, number in enumerate(costs.argmin(dim=0)):
        torch.testing.assert_close(best[item], estimates[item, list(orders[number])])


def test_one_and_rest_takes_the_best_target_as_the_one() -> None:
    mixtures, targets = batch(3)
    targets[0, 1] *= 5
    mixtures = targets.sum(dim=1)
    network = gains(("one", "rest"), (0.9, 0.1))
    objective = Objective(network, rule("mse", assignment="one_and_rest"), THREE)
    one, rest = 0.9 * mixtures, 0.1 * mixtures
    costs = torch.stack(
        [
            (one - targets[:, n]).square().mean(dim=(1, 2))
            + (rest - (mixtures - targets[:, n])).square().mean(dim=(1, 2)) / 2
            for n in range(3)
        ]
    )
    torch.testing.assert_close(objective(mixtures, targets)[0], costs.min(dim=0).values)
    chosen = costs.argmin(dim=0)
    assert chosen[0] == 1
    best = objective.best(mixtures, targets)
    for item in range(2):
        for number in range(3):
            torch.testing.assert_close(best[item, number], (one if chosen[item] == number else rest)[item])


def test_mixit_gives_each_estimate_to_the_mixture_that_it_fits() -> None:
    mixtures, targets = batch(2)
    network = gains(tuple("abcd"), (0.4, 0.3, 0.2, 0.1))
    objective = Objective(network, rule("mse", assignment="mixit"), ("mixture_1", "mixture_2"))
    sources = network(mixtures)
    sums = [
        torch.stack([sources[:, [n for n in range(4) if code >> n & 1 == which]].sum(dim=1) for which in (0, 1)], 1)
        for code in range(16)
    ]
    costs = torch.stack([mse_loss(one, targets) for one in sums])
    torch.testing.assert_close(objective(mixtures, targets)[0], costs.min(dim=0).values)
    best = objective.best(mixtures, targets)
    for item, code in enumerate(costs.argmin(dim=0)):
        torch.testing.assert_close(best[item], sums[code][item])


def test_groups_are_numbers_of_sources() -> None:
    assert source_groups(["x", "y"], ["y", "x"], {}) == ((1,), (0,))
    assert source_groups(["x"], ["y", "x"], {"y": []}) == ((), (0,))


@pytest.mark.parametrize(
    ("sources", "targets", "given", "message"),
    [
        (["voice"], ["vocals"], {}, r"'vocals' is compared with the source 'vocals', and the network has voice"),
        (["voice"], ["vocals"], {"vocals": "voise"}, r"\(did you mean 'voice'\?\)"),
        (["x", "y"], ["x"], {}, "the network's source 'y' is compared with no target; give each"),
        (["x"], ["x", "y"], {"y": "x"}, "the network's source 'x' is compared with more than one target"),
        (["x"], ["x"], {"x": ["x", "x"]}, "more than one"),
    ],
)
def test_sources_that_do_not_fit_are_named(
    sources: list[str], targets: list[str], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        source_groups(sources, targets, given)


@pytest.mark.parametrize(
    ("loss", "network", "message"),
    [
        (rule("magnitude_l1"), conv_tasnet, "ConvTasNet has none before its sources: use l1"),
        (rule("guided"), conv_tasnet, "'guided' teaches a classifier, and this ConvTasNet has none to teach"),
        (rule("guided"), functools.partial(conditioned_itdcn, tuning="frozen"), "this TDCN has none to teach"),
        (rule("activity"), mrx, "'activity' is for networks that say who is heard, and MRX does not: use mrx-c"),
    ],
)
def test_terms_that_the_network_cannot_be_asked_are_refused(loss: LossRule, network: Any, message: str) -> None:
    made = network()
    with pytest.raises(RecipeError, match=message):
        Objective(made, loss, made.sources)


def test_a_sum_has_no_magnitudes_and_no_activity() -> None:
    with pytest.raises(RecipeError, match="compares each source, and a target is the sum of several"):
        Objective(open_unmix(sources=THREE), rule("magnitude_l1"), ("a", "d"), {"d": ["b", "c"]})


@pytest.mark.parametrize(
    ("assignment", "sources", "targets", "message"),
    [
        ("permutation", "ab", "xyz", "'permutation' for 3 targets needs a network of 3 sources, .* has 2"),
        ("one_and_rest", "abc", "xyz", "needs a network of 2 sources, and this one has 3"),
        ("mixit", "abcd", "xyz", "'mixit' needs mixtures of two mixtures, and these have x, y, z"),
    ],
)
def test_assignments_need_as_many_sources(assignment: str, sources: str, targets: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Objective(gains(tuple(sources)), rule("mse", assignment=assignment), tuple(targets))
