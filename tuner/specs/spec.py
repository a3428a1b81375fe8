"""The base of every spec."""

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


def _refuse_lookalikes(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


def _take_literally(schema: Any, model: type[BaseModel]) -> None:
    """In place, of `model` and not of other models in it, which have done so themselves. JSON's keys are texts in any case.

    pydantic gives the same schema again whenever the model is used, so what has been done is left as it is.
    """
    parts = (value for key, value in schema.items() if key != "keys_schema") if isinstance(schema, dict) else schema
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "function-before" and part["function"]["function"] is _refuse_lookalikes:
            continue
        if kind == "int":
            literal = core_schema.no_info_before_validator_function(_refuse_lookalikes, part.copy())
            part.clear()
            part.update(literal)
        elif kind in ("float", "bool"):
            part["strict"] = True
        elif isinstance(part, list | tuple) or (isinstance(part, dict) and part.get("cls", model) is model):
            _take_literally(part, model)


def left_out() -> Any:
    """The default of an edit's field that takes no null: what was not set is never read, and the document tells of no default."""
    return None


class Spec(BaseModel):
    """A frozen value. An unknown field and a NaN are refused, and so is what only looks like a number or a truth value: JSON's
    true is no 1, "5" is no 5, and 0 is no false. A whole number may be written as 5.0, as JSON Schema has it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _take_literally(schema, cls)
        return schema
