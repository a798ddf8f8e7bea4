"""Measure resilient_faces beside its peers, in one run, as ratios: `python -m bench`.

`table` holds every row with its limits, `workloads` what is guarded, `ours` and `peers` who guards it, `scenarios`
which of them meet in a row; `sampling`, `footprint` and `imports` measure; `running` starts the processes and judges.
"""
