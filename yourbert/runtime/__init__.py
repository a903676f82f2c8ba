"""The hardware side: device and precision, GPU capabilities, ranks and their launch, progress, time and energy.

Nothing here depends on tasks or losses.
"""
