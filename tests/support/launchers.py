"""What tests of every launcher need to know about single ones."""

NEEDED = {
    "kubeflow": (
        "launcher.kubeflow.image=registry.example/zpipe:1",
        "launcher.kubeflow.volumes=['runs:/shared']",
        "tracking.enabled=false",
    )
}
"""What a launcher cannot guess."""
