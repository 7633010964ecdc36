"""JSON of real files with a few values replaced, removed or doubled, as choices say."""

from __future__ import annotations

import copy
from typing import Any

from tests.fuzz.choices import Choices

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 4, -10, -20, 0.5, 1e308, 2**70, float("nan"), "", "x", "None", "0", "²", "1e5"),
    *([], {}, [[]], [0], ["1", 0], [1, 0, 2], {"__value__": 1}, {"v": 1, "rows": [{}]}, "\x1b[31m", "../../x"),
    "\ud800",
)
Place = tuple[Any, Any]  # a list or an object, and an index or a key of it


def edited(choices: Choices, data: Any, pieces: tuple[Any, ...] = ()) -> Any:
    """Return a changed copy of `data`; what replaces a value is odd, from elsewhere in it, or one of `pieces`."""
    data = copy.deepcopy(data)
    for _ in range(choices.number(6)):
        places = _places(data)
        if not places:
            break
        holder, key = places[choices.number(len(places))]
        what = choices.number(4)
        if what == 0:
            del holder[key]
        elif what == 1:
            other, there = places[choices.number(len(places))]
            holder[key] = copy.deepcopy(other[there])
        elif what == 2 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif what == 2:
            holder[choices.text(8) or "1"] = copy.deepcopy(holder[key])
        else:
            holder[key] = copy.deepcopy(choices.one_of((*ODD, *pieces)))
    return data


def _places(data: Any) -> list[Place]:
    found: list[Place] = []
    waiting = [data]
    while waiting:
        value = waiting.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            found.append((value, key))
            waiting.append(value[key])
    return found
