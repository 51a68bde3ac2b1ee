"""Functions and classes of the user's own that a configuration names: `package.module:name`.

They are found in the working directory and wherever else Python looks; `_target_` names them as Hydra does, with a dot
in place of the colon.
"""

from __future__ import annotations

import importlib
from typing import Any

from slimcam.deploy.common.messages import one_line
from slimcam.deploy.common.result_key import source_digest


def of_target(target: str, option: str) -> str:
    """The name `package.module:name` of what `package.module.name` is.

    Args:
        target: As Hydra has it; with a colon it is taken as it is.
        option: The option that holds it, for the message.

    Raises:
        ValueError: There is no dot in it.
    """
    if ":" in target:
        return target
    module, _, name = target.rpartition(".")
    if not module:
        raise ValueError(f"{option} is package.module.name of your own code, as in mymodule.build; got {target!r}")
    return f"{module}:{name}"


def find(name: str) -> Any:
    """What `package.module:name` names.

    Raises:
        ValueError: There is none, or its module cannot be imported.
    """
    module, _, member = name.partition(":")
    try:
        return getattr(importlib.import_module(module), member)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"expected module:name of your own, in the working directory or where else Python looks; {one_line(error)}"
        ) from error
    except Exception as error:  # whatever the module does while it is imported
        raise ValueError(f"{module} cannot be imported: {type(error).__name__}: {one_line(error)}") from error


def code_key(name: str) -> Any:
    """What of own code a key is made of: its name, and the source of its module and the rest of its package."""
    module = name.partition(":")[0]
    source = None if module.startswith("slimcam.") else source_digest(module)
    return name if source is None else {"builder": name, "source": source}
