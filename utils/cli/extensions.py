"""File extensions of images and masks, in a module that `--help` can import without OpenCV."""

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MASK_EXTENSIONS = (".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
