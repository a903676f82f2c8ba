"""Where numbers are computed: device and precision, GPU abilities, ranks and their launch, progress, time and energy.

Nothing here knows a task or a loss.
"""
