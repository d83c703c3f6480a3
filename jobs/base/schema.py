"""Models of files that a person edits (tiers, sites): what is wrong in a file is one line that says where.

A section of a file is a class with `Keys` as its base: its attributes are the keys, the text below each says
what it means. A value's type is one of those below; it stays what the file says, an integer an integer and a
text a text, since parameters of stages are hashed. Only what reads such files imports this module: stages,
which run in images, do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from jobs.base.errors import SuiteError
from jobs.base.files import read_mapping

# A mark of forms of a section in the places that errors name; no key of a file begins with it.
FORM = "\0"
ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Expected:
    """Of an annotated type: what is expected there, in words; it stands for every error inside."""

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """See pydantic."""
        return core_schema.custom_error_schema(
            handler(source),
            custom_error_type="expected",
            custom_error_message="expected {words}",
            custom_error_context={"words": self.words},
        )


class OneOf:
    """Of an annotated text: one of these words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """See pydantic."""
        return core_schema.custom_error_schema(
            core_schema.literal_schema(list(self.words)),
            custom_error_type="expected",
            custom_error_message="expected {words}",
            custom_error_context={"words": f"one of {', '.join(self.words)}"},
        )


# Values. Strict: pydantic would take true for 1, "2" for 2 and 2 for 2.0.
_Integer = Annotated[int, Strict()]
_Number = _Integer | Annotated[float, Strict(), AllowInfNan(False)]
_POSITIVE = "a positive number, as 2 or 1.0e-3"  # YAML reads 1e-3, without a point, as text
Count = Annotated[_Integer, Field(gt=0), Expected("a positive integer")]
Whole = Annotated[_Integer, Field(ge=0), Expected("an integer, 0 or more")]
Number = Annotated[_Number, Expected("a number")]
Positive = Annotated[_Number, Field(gt=0), Expected(_POSITIVE)]
PositiveOrNull = Annotated[Positive | None, Expected(f"{_POSITIVE}, or null")]
Flag = Annotated[bool, Strict(), Expected("true or false")]
Text = Annotated[str, Strict(), Expected("text")]
TextOrNull = Annotated[Text | None, Expected("text, or null")]
TextOrNumber = Annotated[Text | _Integer | Annotated[float, Strict()], Expected("text or a number")]
Texts = Annotated[tuple[Text, ...], Expected("a list of texts")]
Counts = Annotated[list[Count], Field(min_length=1), Expected("a list of positive integers")]


def names(*, only: Sequence[str] = (), needed: Sequence[str] = ()) -> BeforeValidator:
    """Of an annotated dict: which names it may have (any without `only`) and must have."""

    def check(found: Any) -> Any:
        _check_names(found, only=only, needed=needed)
        return found

    return BeforeValidator(check)


class Keys(BaseModel):
    """A section of a file: only these keys, and all that have no default.

    Of a section with several forms, the keys of a form's own class stand first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _has_its_keys(cls, found: Any) -> Any:
        own = sorted(cls.model_fields.items(), key=lambda item: item[0] not in cls.__annotations__)
        fields = {field.alias or name: field for name, field in own}
        closed = cls.model_config.get("extra") == "forbid"
        needed = [name for name, field in fields.items() if field.is_required()]
        _check_names(found, only=list(fields) if closed else (), needed=needed)
        return found


def _check_names(found: Any, *, only: Sequence[str], needed: Sequence[str]) -> None:
    if not isinstance(found, dict):
        raise _wrong(shown(found), "keys with values")
    for name in found:
        if not isinstance(name, str):
            raise _wrong(f"{name!r} as a name", "text")
        if only and name not in only:
            raise _wrong(name, f"only {', '.join(only)}")
    if missing := [name for name in needed if name not in found]:
        raise _wrong(f"no {', '.join(missing)}", ", ".join(needed))


def _wrong(found: str, expected: str) -> PydanticCustomError:
    return PydanticCustomError("keys", "{said}", {"said": f"found {found}, expected {expected}"})


def read_model(path: Path, model: type[ModelT]) -> ModelT:
    """The content of a YAML file, or a JSON one by its suffix.

    Raises:
        SuiteError: not readable, or not as the model says.
    """
    return checked(path, read_mapping(path), model)


def checked(path: Path, found: Any, model: type[ModelT], *, at: str = "") -> ModelT:
    """What was found in a file, as the model; `at` is where in the file it stands, as `runs.liquid`.

    Raises:
        SuiteError: it is not as the model says; the line names the first thing that is wrong.
    """
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise SuiteError(f"{path}: {_line(error.errors(include_url=False)[0], at)}") from None


def _line(error: ErrorDetails, at: str) -> str:
    where = ".".join([*filter(None, [at]), *_places(error["loc"])])
    words = error.get("ctx", {}).get("words", error["msg"])
    said = error["msg"] if error["type"] == "keys" else f"found {shown(error['input'])}, expected {words}"
    return f"{where}: {said}" if where else said


def _places(location: Iterable[int | str]) -> list[str]:
    return [str(place) for place in location if not str(place).startswith(FORM)]


def shown(found: Any) -> str:
    """A value of a file for a message."""
    text = "nothing" if found is None else repr(found)
    return text if len(text) <= 60 else f"{text[:57]}..."
