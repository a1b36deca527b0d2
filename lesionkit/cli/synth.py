"""``lesionkit synth``: synthetic CT in DeepLesion's format."""

from lesionkit.cli.options import ImageSize, Out, Overwrite, Patients, Seed

WRITES = ("DL_info.csv", "Images_png/*/*.png")


def synth(
    out: Out,
    patients: Patients = 72,
    seed: Seed = 0,
    image_size: ImageSize = 512,
    overwrite: Overwrite = False,
) -> None:
    """Make a synthetic data set in DeepLesion's own format (16-bit PNG slices, DL_info.csv).

    The same seed gives the same bytes. About 70 / 15 / 15 % of the patients are for training,
    validation and test.
    """
    from lesionkit.cli.output import result_folder
    from lesionkit.cli.progress import progress
    from lesionkit.data import synthesize

    arguments = {"patients": patients, "seed": seed, "image_size": image_size}
    config = {"command": "synth", "arguments": arguments}
    with (
        result_folder(out, overwrite, config, WRITES) as folder,
        progress("synthetic CT") as update,
    ):
        synthesize(folder, patients, seed, image_size, progress=update)
    print(f"{patients} patients: {out}")
