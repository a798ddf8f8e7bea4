"""For tests of code that uses this library: a manual clock, scripted failures, all modes in one test, no waiting.

Nothing here acts by being imported or installed. The pytest fixtures `clock`, `mode` and `resilience` come with the
package and do nothing until a test asks for them.
"""

from resilient_faces._core.runtime import ManualRuntime
from resilient_faces.testing.modes import Mode
from resilient_faces.testing.runtime import fresh, quick_retries
from resilient_faces.testing.script import Hang, Scripted, script
from resilient_faces.testing.stepping import SteppedRuntime, settle

__all__ = ["Hang", "ManualRuntime", "Mode", "Scripted", "SteppedRuntime", "fresh", "quick_retries", "script", "settle"]
