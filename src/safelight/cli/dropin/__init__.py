"""What the drop-in commands share: `httpthumbnailer`, `httpimagestore`."""
