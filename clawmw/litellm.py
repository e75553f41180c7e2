"""`clawmw.litellm`: litellm under a policy. See `clawmw.adapters.litellm`."""

from clawmw.adapters.litellm import acompletion, completion, register

__all__ = ["acompletion", "completion", "register"]
