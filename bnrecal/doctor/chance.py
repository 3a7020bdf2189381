"""When two metrics of the same images are further apart than chance explains."""

import math


def differ(a: float, b: float, n_images: int) -> bool:
    """Whether two metrics of n images are further apart than chance explains.

    Metrics within 0 to 1 are taken as fractions of the images: apart by two standard deviations of the
    difference of independent fractions, 2 sqrt((a (1 - a) + b (1 - b)) / n), and by two images. The
    images are the same ones, so chance explains less than that. Others: by 1.5 / sqrt(n) of the larger,
    and by 2 %. A metric that is no number differs from any that is.
    """
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) != math.isnan(b)
    if min(a, b) >= 0 and max(a, b) <= 1:
        spread = math.sqrt((a * (1 - a) + b * (1 - b)) / n_images)
        return abs(a - b) > max(2 * spread, 2 / n_images)
    return abs(a - b) > max(0.02, 1.5 / math.sqrt(n_images)) * max(abs(a), abs(b))
