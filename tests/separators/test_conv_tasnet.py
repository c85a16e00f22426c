"""Conv-TasNet."""

from __future__ import annotations

import torch

from separators import ConvTasNet, ConvTasNetConfig
from tests.separators.small_networks import conv_tasnet, noise, seeded


def test_it_has_the_published_size() -> None:
    network = ConvTasNet()
    assert sum(parameter.numel() for parameter in network.parameters()) == 10_977_872
    assert len(network.blocks) == 40
    dilations = [block.layers[3].dilation[0] for block in network.blocks]
    assert dilations == [2**power for power in range(10)] * 4


def test_normalisation_is_over_channels_and_time_of_an_item() -> None:
    norm = ConvTasNet(ConvTasNetConfig(hidden=6, dilations=1, repeats=1)).blocks[0].layers[2]
    signal = 5 + 3 * torch.randn(2, 6, 50, generator=torch.Generator().manual_seed(0))
    mean = signal.mean(dim=(1, 2), keepdim=True)
    wanted = (signal - mean) / (signal - mean).square().mean(dim=(1, 2), keepdim=True).sqrt()
    torch.testing.assert_close(norm(signal), wanted)


def test_masks_of_one_give_what_encoder_and_decoder_give() -> None:
    network = seeded(conv_tasnet).eval()
    mixture = noise(1, 203)
    with torch.no_grad():
        network.masks.weight.zero_()
        assert network(mixture).abs().max() == 0
        network.masks.register_forward_hook(lambda _, __, output: torch.ones_like(output))
        sources = network(mixture)
        padded = torch.nn.functional.pad(mixture, (10, 17))
        weights = torch.relu(network.encoder(padded))
        wanted = torch.zeros(2, 230)
        for column in range(weights.shape[-1]):
            for index in range(weights.shape[1]):
                function = network.decoder.weight[index]
                wanted[:, column * 10 : column * 10 + 20] += weights[0, index, column] * function
    for source in sources[0]:
        torch.testing.assert_close(source, wanted[:, 10:213])


def test_a_shift_by_whole_hops_shifts_the_sources_but_for_the_normalisation() -> None:
    network = seeded(conv_tasnet).eval()
    inner = noise(1, 400)
    early = torch.nn.functional.pad(inner, (200, 300))
    late = torch.nn.functional.pad(inner, (300, 200))
    with torch.no_grad():
        before, after = network(early), network(late)
    torch.testing.assert_close(before[..., 200:600], after[..., 300:700], rtol=0, atol=1e-5)
