"""Names and shapes of the parameters of single modules."""

from collections.abc import Callable

from zpipe.facts.decoder import Decoder

Shapes = dict[str, tuple[int, ...]]

HEAD = "lm_head.weight"


def linear(name: str, outputs: int, inputs: int, bias: bool = False) -> Shapes:
    """torch.nn.Linear."""
    weight: Shapes = {f"{name}.weight": (outputs, inputs)}
    return weight | ({f"{name}.bias": (outputs,)} if bias else {})


def norm(name: str, size: int, bias: bool = False) -> Shapes:
    """An RMS norm, or torch.nn.LayerNorm with a bias."""
    weight: Shapes = {f"{name}.weight": (size,)}
    return weight | ({f"{name}.bias": (size,)} if bias else {})


def repeated(prefix: str, decoder: Decoder, layer: Callable[[int], Shapes]) -> Shapes:
    """The parameters of all layers. `layer` receives the number of a layer."""
    return {
        f"{prefix}.{index}.{name}": shape
        for index in range(decoder.layers)
        for name, shape in layer(index).items()
    }


def head(decoder: Decoder, bias: bool = False) -> Shapes:
    """The head of the language model. Tied to the embeddings, it has no weight of its own."""
    own = linear(HEAD.removesuffix(".weight"), decoder.vocab, decoder.hidden, bias)
    return {name: shape for name, shape in own.items() if name != HEAD or not decoder.tied}
