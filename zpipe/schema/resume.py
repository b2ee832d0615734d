"""Resume: where a run that was started before goes on."""

from zpipe.schema.base import Group

AUTO = "auto"
NEVER = "never"


class Resume(Group):
    """How a run goes on that was started before."""

    checkpoint: str = AUTO
    """auto: the newest intact checkpoint of the run folder; never: refuse a run folder that holds a run;
    otherwise the folder of a checkpoint."""
    trust: bool = False
    """Load a checkpoint of another run, or of a run folder that was moved: others may have changed it."""
