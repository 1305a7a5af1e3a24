"""tocsin demo: the real system does its main job, and shows what happened."""
