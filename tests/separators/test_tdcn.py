"""TDCN++ and iTDCN++."""

from __future__ import annotations

import pytest
import torch

from manifests.errors import RecipeError
from separators.embedder import SmallEmbedder, soft_or
from separators.stft import istft, stft
from separators.tdcn import TDCN, TDCNConfig
from tests.separators.small_networks import (
    conditioned_itdcn,
    fall_of_loss,
    half_precision_error,
    learned_itdcn,
    noise,
    seeded,
    size,
    tdcn,
)


class Loudness:
    """Logits that are known: the mean of each hundred frames, times the class's number."""

    sample_rate, classes = 16000, 5

    def __init__(self) -> None:
        self.heard: list[torch.Tensor] = []

    def __call__(self, audio: torch.Tensor) -> torch.Tensor:
        self.heard.append(audio)
        means = torch.nn.functional.avg_pool1d(audio[:, None], 100, ceil_mode=True)
        return means * torch.arange(1.0, 6)[:, None]


def test_it_has_the_published_layers() -> None:
    with torch.device("meta"):
        once, twice = TDCN(), TDCN(TDCNConfig(iterations=2))
    (stage,) = once.stages
    assert [block.layers[3].dilation[0] for block in stage.blocks] == [1, 2, 4, 8, 16, 32, 64, 128] * 4
    block = 2 * 256 * 512 + 512 * 4 + 2 * 512 + 4 * 512 + 1
    skips = 6 * (256 * 256 + 256)
    assert size(once) == 32 * block + skips + 41 * 256 + 256 + 256 * 82 + 82
    assert size(once) == pytest.approx(9e6, rel=0.005)
    assert size(twice) == 2 * size(once) + 256 * 2 * 41
    assert TDCN(TDCNConfig(repeats=1, dilations=7)).stages[0].blocks[6].scale.item() == pytest.approx(0.9**6)


def test_masks_are_those_of_the_mixture_and_the_rest_is_shared() -> None:
    network = seeded(tdcn).eval()
    mixture = noise(1, 500)
    masks: list[torch.Tensor] = []
    network.stages[0].masks.register_forward_hook(lambda _, __, output: masks.append(output.sigmoid()))
    with torch.no_grad():
        sources = network(mixture)
    spectrum = stft(mixture, 32, 16)
    masked = istft(masks[0].reshape(1, 2, 2, 17, -1) * spectrum[:, None], 32, 16, 500)
    torch.testing.assert_close(sources, masked + (mixture - masked.sum(dim=1))[:, None] / 2)


@pytest.mark.parametrize("make", [tdcn, learned_itdcn, conditioned_itdcn])
def test_sources_sum_to_the_mixture(make) -> None:
    network = seeded(make).eval()
    mixture = noise(2, 700)
    with torch.no_grad():
        outputs = network.outputs(mixture)
    for sources in (outputs.sources, *outputs.earlier):
        torch.testing.assert_close(sources.sum(dim=1), mixture, rtol=0, atol=1e-5)
    free = seeded(lambda: tdcn(consistency="none")).eval()
    with torch.no_grad():
        assert not torch.allclose(free(mixture).sum(dim=1), mixture, atol=1e-2)


def test_learned_shares_follow_the_mixture() -> None:
    network = seeded(lambda: tdcn(consistency="learned")).eval()
    mixture = noise(1, 700)
    with torch.no_grad():
        network.stages[0].masks.bias.fill_(-100)
        network.stages[0].masks.weight.zero_()
        sources = network(mixture)
        shares = sources[0, :, 0, 300] / mixture[0, 0, 300]
        torch.testing.assert_close(sources, shares[None, :, None, None] * mixture[:, None])
        assert shares.sum().item() == pytest.approx(1)
        other = network(5 * mixture.flip(-1))
    assert shares[0].item() != pytest.approx(float(other[0, 0, 0, 399] / (5 * mixture[0, 0, 300])), abs=1e-4)


def test_a_learned_basis_can_be_an_orthonormal_one() -> None:
    network = seeded(lambda: tdcn(basis="learned", filters=32, hop_frames=16, channels=1, consistency="none"))
    basis = network.stages[0].basis
    mixture = noise(1, 203)[:, :1]
    with torch.no_grad():
        # Each frame and its negative, in a window of 16 of 32: what the rectifier lets through is the signal.
        basis.encoder.weight.zero_()
        for frame in range(16):
            basis.encoder.weight[frame, 0, frame] = 1
            basis.encoder.weight[16 + frame, 0, frame] = -1
        basis.decoder.weight.copy_(basis.encoder.weight)
        weights = basis(mixture[:, None])
        assert weights.min() == 0
        torch.testing.assert_close(basis.inverse(weights, mixture[:, None]), mixture[:, None])


def test_norms_are_over_the_time_of_a_feature() -> None:
    norm = tdcn().stages[0].blocks[0].layers[2]
    signal = torch.randn(2, 8, 50, generator=torch.Generator().manual_seed(0)) * 3 + 1
    wanted = (signal - signal.mean(dim=2, keepdim=True)) / signal.std(dim=2, correction=0, keepdim=True)
    torch.testing.assert_close(norm(signal), wanted)


def test_repeats_hear_the_inputs_of_all_earlier_ones() -> None:
    network = seeded(tdcn).eval()
    (stage,) = network.stages
    with torch.no_grad():
        for block in stage.blocks:
            block.scale.zero_()
        entered: list[torch.Tensor] = []
        for layer in (0, 2, 4):
            stage.blocks[layer].register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
        network(noise(1, 200))
        first, second, third = entered
        torch.testing.assert_close(second, first + stage.skips[1][0](first))
        torch.testing.assert_close(third, second + stage.skips[2][0](first) + stage.skips[2][1](second))


def test_the_second_network_hears_the_estimates_of_the_first() -> None:
    network = seeded(learned_itdcn).eval()
    mixture = noise(2, 500)
    with torch.no_grad():
        outputs = network.outputs(mixture)
        (first,) = outputs.earlier
        torch.testing.assert_close(first, network.stages[0](mixture[:, None], None))
        wanted = network.stages[1](torch.cat([mixture[:, None], first], dim=1), None)
        torch.testing.assert_close(outputs.sources, wanted)
        silent = network.stages[1](torch.cat([mixture[:, None], 0 * first], dim=1), None)
    assert not torch.allclose(wanted, silent)


@pytest.mark.parametrize("conditioning", ["mixture", "all", "soft_or"])
def test_what_conditions_the_networks(conditioning: str) -> None:
    embedder = Loudness()
    network = tdcn(embedder, iterations=2, conditioning=conditioning).eval()
    seen: list[torch.Tensor] = []
    for stage in network.stages:
        stage.condition.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    mixture = noise(1, 450)
    with torch.no_grad():
        (first,) = network.outputs(mixture).earlier
        mono = Loudness()(mixture.mean(dim=1))
        heard = Loudness()(first[0].mean(dim=1))
    wanted = {
        "mixture": mono,
        "all": torch.cat([mono[0], *heard])[None],
        "soft_or": soft_or(heard[None]),
    }[conditioning]
    assert len(seen) == 2
    torch.testing.assert_close(seen[0], mono)
    torch.testing.assert_close(seen[1], wanted)
    assert len(embedder.heard) == (1 if conditioning == "mixture" else 2)


def test_a_condition_is_repeated_over_time_squashed_and_normalised() -> None:
    condition = tdcn(Loudness(), conditioning="mixture").stages[0].condition
    logits = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer = condition.layers[0](logits.sigmoid().repeat_interleave(3, dim=2))
        wanted = (layer - layer.mean()) / (layer.var(correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(condition(logits, 12), wanted)
        trained = tdcn(Loudness(), conditioning="mixture", sigmoid="trained").stages[0].condition
        trained.load_state_dict({**condition.state_dict(), "shape": torch.tensor([2.0, 3.0, 0.5])})
        trained.layers[1] = torch.nn.Identity()
        wanted = condition.layers[0](2 / (1 + torch.exp(3 * (0.5 - logits))))
        torch.testing.assert_close(trained(logits, 4), wanted)


@pytest.mark.parametrize("everywhere", ["first", "all"])
@pytest.mark.parametrize("integration", ["concatenate", "gate"])
def test_where_a_condition_enters(everywhere: str, integration: str) -> None:
    network = seeded(
        lambda: tdcn(
            conditioning="mixture",
            integration=integration,
            conditioned_blocks=everywhere,
            embedding_channels=6,
        )
    ).eval()
    widths = [block.layers[0].in_channels for block in network.stages[0].blocks]
    wide = 12 if integration == "concatenate" else 6
    assert widths == [wide] + [wide if everywhere == "all" else 6] * 5
    block = network.stages[0].blocks[0]
    signal, condition = noise(1, 60).reshape(1, 6, 20), noise(1, 60, seed=1).reshape(1, 6, 20)
    with torch.no_grad():
        entering = condition * signal if integration == "gate" else torch.cat([condition, signal], dim=1)
        torch.testing.assert_close(block(signal, condition), signal + block.scale * block.layers(entering))
        before = network(noise(1, 400))
        network.stages[0].condition.layers[1].weight.neg_()
        assert not torch.allclose(network(noise(1, 400)), before)


@pytest.mark.parametrize(
    ("tuning", "layers", "trained"), [("frozen", 3, 0), ("fine_tuned", 1, 2), ("guided", 2, 8)]
)
def test_as_much_of_the_embedder_is_trained_as_was_asked_for(tuning: str, layers: int, trained: int) -> None:
    network = conditioned_itdcn(tuning=tuning, tuned_layers=layers).train()
    network(noise(2, 400)).square().mean().backward()
    with_gradient = [name for name, weight in network.embedder.named_parameters() if weight.grad is not None]
    assert len(with_gradient) == trained
    assert all(name.startswith(("layers.10", "layers.9")) for name in with_gradient)
    assert network.training
    assert not any(module.training for module in network.embedder.modules())


@pytest.mark.parametrize(("iterations", "conditioning"), [(1, "mixture"), (2, "mixture"), (2, "all")])
def test_a_guided_embedder_says_what_it_hears(iterations: int, conditioning: str) -> None:
    changes = {"iterations": iterations, "conditioning": conditioning, "embedder_width": 8}
    network = seeded(lambda: conditioned_itdcn(**changes)).train()
    mixture = noise(2, 4000)
    outputs = network.outputs(mixture)
    heard = outputs.earlier[0] if conditioning == "all" else outputs.sources
    wanted = [network.embedder(signal.mean(dim=1)) for signal in (mixture, heard[:, 0], heard[:, 1])]
    torch.testing.assert_close(outputs.embeddings, torch.stack(wanted, dim=1))
    for estimates in (outputs.sources, *outputs.earlier):
        said = network.embedder(estimates[:, 0].mean(dim=1))
        assert torch.allclose(said, wanted[1]) == (estimates is heard)
    outputs.embeddings.sum().backward()
    assert all(weight.grad is not None for weight in network.embedder.parameters())
    assert conditioned_itdcn(tuning="fine_tuned").outputs(mixture).embeddings is None


def test_the_guide_hears_clean_sources_and_stays_as_it_was() -> None:
    network = seeded(conditioned_itdcn).train()
    sources = torch.stack([noise(2, 4000), noise(2, 4000, seed=1)], dim=1)
    guides = network.guides(sources)
    said = torch.stack([network.embedder(sources[:, source].mean(dim=1)) for source in (0, 1)], dim=1)
    torch.testing.assert_close(guides[:, 1:], said.detach())
    torch.testing.assert_close(guides[:, 0], soft_or(said.detach()))
    with torch.no_grad():
        network.embedder.layers[-1].weight.neg_()
    torch.testing.assert_close(network.guides(sources), guides)
    assert not guides.requires_grad
    assert conditioned_itdcn(tuning="fine_tuned").guide is None


def test_an_embedder_must_fit() -> None:
    with pytest.raises(RecipeError, match="sample_rate is 44100: set it to the embedder's, 16000"):
        tdcn(Loudness(), conditioning="mixture", sample_rate=44100)
    with pytest.raises(RecipeError, match="classes is 7: set it to the embedder's, 5"):
        tdcn(Loudness(), conditioning="mixture", classes=7)
    with pytest.raises(RecipeError, match="leave the embedder out"):
        tdcn(Loudness())
    with pytest.raises(RecipeError, match="Loudness has no layers to train"):
        tdcn(Loudness(), conditioning="mixture", tuning="fine_tuned")
    ours = SmallEmbedder(classes=5, width=2)
    assert tdcn(ours, conditioning="mixture").embedder is ours


@pytest.mark.parametrize("make", [tdcn, learned_itdcn, conditioned_itdcn])
def test_it_learns_a_batch_by_heart(make) -> None:
    assert fall_of_loss(make) < 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conditioning": "all"}, "one iteration has no estimates to hear"),
        ({"tuning": "guided"}, "nothing to tune"),
        ({"conditioning": "mixture", "integration": "gate", "embedding_channels": 9}, "must be bottleneck, 256"),
        ({"kernel": 4}, "kernel is 4"),
        ({"window_frames": 81}, "window_frames is 81"),
        ({"basis": "fourier"}, r"TDCNConfig\.basis is 'fourier'"),
        ({"repeats": 0}, "repeats is 0"),
    ],
)
def test_an_impossible_config_says_what_and_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        TDCNConfig.from_json(changes)


@pytest.mark.parametrize("make", [tdcn, learned_itdcn, conditioned_itdcn])
def test_half_precision_does_for_the_layers(make) -> None:
    assert 0 < half_precision_error(make) < 0.05
