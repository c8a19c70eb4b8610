"""Every model by name: what makes it, and the groups it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import neural, protocol, refused, tabular, vision
from .folder import Folder

DEMO = "demo"  # what scripts/demo.sh deploys
TEST = "test"  # what the end-to-end tests deploy, or see refused
BENCH = "bench"  # what the benchmarks measure
REFUSED = "refused"  # what a deploy must refuse; part of TEST
HUGE = "huge"  # only made when asked for by name or by this group


@dataclass(frozen=True)
class Recipe:
    """`generate` fills one folder; equal sources give equal folders."""

    generate: Callable[[Folder], None]
    groups: tuple[str, ...]


_VALID = {
    "iris": Recipe(tabular.iris, (DEMO, TEST)),
    "iris_forest": Recipe(tabular.iris_forest, (TEST,)),
    "logistic": Recipe(tabular.logistic, (TEST, BENCH)),
    "logistic_zipmap": Recipe(tabular.logistic_zipmap, (TEST,)),
    "gbdt": Recipe(tabular.gbdt, (BENCH,)),
    "mlp1m": Recipe(neural.mlp1m, (TEST, BENCH)),
    "ocrcls": Recipe(vision.ocrcls, (BENCH,)),
    "ocr_orientation": Recipe(vision.ocr_orientation, (DEMO, TEST)),
    "resnet50": Recipe(neural.resnet50, (BENCH,)),
    "mlp64m": Recipe(neural.mlp64m, (BENCH,)),
    "mlp1g": Recipe(neural.mlp1g, (BENCH,)),
    "mlp6g": Recipe(neural.mlp6g, (HUGE,)),
    "adder": Recipe(protocol.adder, (TEST,)),
    "multi_rank": Recipe(protocol.multi_rank, (TEST,)),
    "string_upper": Recipe(protocol.string_upper, (TEST,)),
    "image_input": Recipe(vision.image_input, (TEST,)),
    "image_planes": Recipe(vision.image_planes, (TEST,)),
    "random_normal": Recipe(protocol.random_normal, (TEST,)),
    "slow": Recipe(protocol.slow, (TEST,)),
    "memory_hog": Recipe(protocol.memory_hog, (TEST,)),
    "big_reply": Recipe(protocol.big_reply, (TEST,)),
    "gather": Recipe(protocol.gather, (TEST,)),
    "reshape": Recipe(protocol.reshape, (TEST,)),
    "crash": Recipe(protocol.crash, (TEST,)),
    **{
        f"identity_{datatype.lower()}": Recipe(protocol.identity(datatype), (TEST,))
        for datatype in protocol.ALL_DATATYPES
    },
}

_REFUSED = (
    refused.sequence_output,
    refused.sequence_input,
    refused.optional_input,
    refused.optional_output,
    refused.map_input,
    refused.custom_op,
    refused.unknown_op,
    refused.cycle,
    refused.undefined_input,
    refused.no_outputs,
    refused.type_mismatch,
    refused.opset_too_new,
    refused.external_escape,
    refused.external_absolute,
    refused.external_symlink,
    refused.external_missing,
    refused.external_short,
    refused.empty,
    refused.truncated,
    refused.garbage,
    refused.sklearn_pickle,
    refused.pytorch_zip,
    refused.keras_h5,
    refused.unknown_setting,
    refused.no_model,
    refused.crash_on_load,
    refused.hang,
    refused.greedy,
)

MODELS: dict[str, Recipe] = _VALID | {
    make.__name__: Recipe(make, (TEST, REFUSED)) for make in _REFUSED
}

GROUPS = (DEMO, TEST, BENCH, REFUSED, HUGE)


def select(wanted: list[str]) -> list[str]:
    """Names in the catalogue's order for names and groups; without any, everything that is not huge.

    Raises KeyError with the first name that is neither.
    """
    for name in wanted:
        if name not in MODELS and name not in GROUPS:
            raise KeyError(name)
    if not wanted:
        return [name for name, recipe in MODELS.items() if HUGE not in recipe.groups]
    return [
        name
        for name, recipe in MODELS.items()
        if name in wanted or set(recipe.groups) & set(wanted)
    ]
