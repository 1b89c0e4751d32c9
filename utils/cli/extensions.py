"""File endings of pictures and masks; apart, so that a `--help` can name them without OpenCV."""

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MASK_EXTENSIONS = (".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
