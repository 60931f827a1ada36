"""From rows to numbers: times, speed-ups, losses, controls, races and the verdict. Nothing here draws or trains."""
