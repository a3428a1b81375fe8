"""What may be said of nets that were trained more than once and judged on the same images. Pure numpy and scipy."""
