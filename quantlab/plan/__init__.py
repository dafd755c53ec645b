"""What will be quantized, how, and why not: draft -> refine -> resolve, all plain data."""

from quantlab.plan.draft import Draft, NodeDraft, draft
from quantlab.plan.quantplan import NodePlan, QuantPlan, Status, TensorPlan
from quantlab.plan.recipe import NonFinite, Recipe, RecipeRule, Settings, activation_spec, weight_spec
from quantlab.plan.refine import refine
from quantlab.plan.resolve import Calibrated, constant_range, resolve
from quantlab.plan.wishes import OpRule, Refuse, Role, Wish, activation, bias, op_rules, share, weight

__all__ = [
    "Calibrated",
    "Draft",
    "NodeDraft",
    "NodePlan",
    "NonFinite",
    "OpRule",
    "QuantPlan",
    "Recipe",
    "RecipeRule",
    "Refuse",
    "Role",
    "Settings",
    "Status",
    "TensorPlan",
    "Wish",
    "activation",
    "activation_spec",
    "bias",
    "constant_range",
    "draft",
    "op_rules",
    "refine",
    "resolve",
    "share",
    "weight",
    "weight_spec",
]
