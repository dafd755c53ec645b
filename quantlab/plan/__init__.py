"""What will be quantized, how, and why not: draft -> refine -> resolve, all plain data."""

from quantlab.plan.draft import Draft, NodeDraft, draft
from quantlab.plan.options import Layout, Numerics
from quantlab.plan.override_json import overrides_to_json, parse_overrides
from quantlab.plan.overrides import GridOverride, TensorOverride
from quantlab.plan.presets import PRESETS, preset
from quantlab.plan.quantplan import NodePlan, QuantPlan, Status, TensorPlan
from quantlab.plan.recipe import NonFinite, Recipe, Settings, activation_spec, weight_spec
from quantlab.plan.recipe_rule import RecipeRule
from quantlab.plan.refine import refine
from quantlab.plan.resolve import Calibrated, constant_range, resolve
from quantlab.plan.wishes import OpRule, Refuse, Role, Wish, activation, bias, op_rules, share, weight

__all__ = [
    "PRESETS",
    "Calibrated",
    "Draft",
    "GridOverride",
    "Layout",
    "NodeDraft",
    "NodePlan",
    "NonFinite",
    "Numerics",
    "OpRule",
    "QuantPlan",
    "Recipe",
    "RecipeRule",
    "Refuse",
    "Role",
    "Settings",
    "Status",
    "TensorOverride",
    "TensorPlan",
    "Wish",
    "activation",
    "activation_spec",
    "bias",
    "constant_range",
    "draft",
    "op_rules",
    "overrides_to_json",
    "parse_overrides",
    "preset",
    "refine",
    "resolve",
    "share",
    "weight",
    "weight_spec",
]
