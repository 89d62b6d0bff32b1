"""Images with class labels: MNIST, and folders of image files."""
