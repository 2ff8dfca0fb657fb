"""Kinds of image files, by their names and their first bytes: which are read, by what, and the way out for the others.

Standard library only, so that the command line can list a folder's images before anything is imported.
"""

import os
from dataclasses import dataclass
from pathlib import PurePath

NOT_AN_IMAGE = "not an image format that OpenCV reads"
AS_PICTURE = "convert it to JPEG or PNG"


@dataclass(frozen=True)
class Kind:
    """A format of images.

    Attributes:
        name: Its name.
        suffixes: Ends of its files' names, lower-case.
        way_out: What to do with a file of a format that is not read as a picture; empty if it is.
        extra: The extra of this package that reads it, and the modules of which one is enough.
    """

    name: str
    suffixes: frozenset[str]
    way_out: str = ""
    extra: tuple[str, tuple[str, ...]] | None = None

    @property
    def a_file(self) -> str:
        """Its name in a sentence: `a PNG file`."""
        return f"{'an' if self.name[0] in 'AEIO' or self.name == 'SVG' else 'a'} {self.name} file"


def _kind(name, suffixes, way_out="", extra=None):
    return Kind(name, frozenset(suffixes.split()), way_out, extra)


JPEG = _kind("JPEG", ".jpg .jpeg .jpe .jfif")
PNG = _kind("PNG", ".png .apng")
TIFF = _kind("TIFF", ".tif .tiff")
AVIF = _kind("AVIF", ".avif .avifs")
HEIC = _kind("HEIC", ".heic .heif .hif .heics .heifs", extra=("heif", ("pi_heif", "pillow_heif")))
DICOM = _kind("DICOM", ".dcm .dicom .ima", extra=("dicom", ("pydicom",)))
NIFTI = _kind(
    "NIfTI",
    ".nii .nii.gz",
    "a folder of volumes is read by keras-vision fracture3d --data FOLDER; for pictures export slices as PNG",
    extra=("nifti", ("nibabel",)),
)
# https://en.wikipedia.org/wiki/Raw_image_format, the first table. Most of these files are TIFFs inside, of which
# OpenCV would read the small preview.
RAW = _kind(
    "camera raw",
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw "
    ".rw2 .rwl .sr2 .srf .srw .x3f",
    "convert it to JPEG",
)
JPEG_XL = _kind("JPEG XL", ".jxl", AS_PICTURE)
PHOTOSHOP = _kind("Photoshop", ".psd .psb", "export it as PNG")
OPENEXR = _kind("OpenEXR", ".exr", "convert it to TIFF")
GIMP = _kind("GIMP", ".xcf", "export it as PNG")
GIF, BMP = _kind("GIF", ".gif"), _kind("BMP", ".bmp .dib")
WEBP = _kind("WebP", ".webp")
KINDS = (
    *(JPEG, PNG, TIFF, AVIF, HEIC, DICOM, RAW, JPEG_XL, PHOTOSHOP, OPENEXR, GIMP, GIF, BMP, WEBP),
    _kind("JPEG 2000", ".jp2 .j2k .jpf .jpx"),
    _kind("Netpbm", ".pbm .pgm .ppm .pnm .pxm .pam .pfm"),
    _kind("Sun raster", ".sr .ras"),
    _kind("Radiance", ".hdr .pic"),
    _kind("JPEG XR", ".jxr .hdp .wdp", AS_PICTURE),
    _kind("JPEG-LS", ".jls", AS_PICTURE),
    _kind("SVG", ".svg .svgz", "export it as PNG"),
    _kind("Encapsulated PostScript", ".eps", "export it as PNG"),
    _kind("Targa", ".tga", "convert it to PNG"),
    _kind("icon", ".ico .icns", "convert it to PNG"),
    _kind("PCX", ".pcx", "convert it to PNG"),
    NIFTI,
    _kind("MetaImage", ".mha .mhd", "export its slices as PNG, or volumes as .npz"),
    _kind("NRRD", ".nrrd", "export its slices as PNG, or volumes as .npz"),
    _kind("microscope's", ".czi .lif .lsm .nd2 .ndpi .svs .vsi", "export it as TIFF or PNG"),
    _kind("FITS", ".fits .fts", "export it as TIFF or PNG"),
)
BY_SUFFIX = {suffix: kind for kind in KINDS for suffix in kind.suffixes}
SIGNATURES = {
    b"\xff\xd8\xff": JPEG,
    b"\x89PNG": PNG,
    b"GIF8": GIF,
    b"BM": BMP,
    b"RIFF": WEBP,
    b"II*\0": TIFF,
    b"MM\0*": TIFF,
    b"8BPS": PHOTOSHOP,
    b"v/1\x01": OPENEXR,
    b"gimp xcf": GIMP,
    b"\0\0\0\x0cJXL \r\n": JPEG_XL,
    b"\xff\x0a": JPEG_XL,
    b"FUJIFILMCCD-RAW": RAW,
    b"IIU\0": RAW,  # Panasonic.
    b"IIRO": RAW,  # Olympus.
}
# Of ISO 14496-12's box `ftyp`. `mif1` and `msf1` only say that there is an image; the compatible brands say which.
BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), AVIF),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), HEIC),
    b"crx ": RAW,
}


def by_name(path: str | os.PathLike[str]) -> Kind | None:
    """The kind that a file's name states; None for another name."""
    suffixes = PurePath(path).suffixes[-2:]
    return BY_SUFFIX.get("".join(suffixes).lower()) or BY_SUFFIX.get("".join(suffixes[-1:]).lower())


def by_content(content: bytes) -> Kind | None:
    """The kind of a file's first bytes, of those that are easily told; None for another."""
    if content[4:8] == b"ftyp":
        brands = [content[8:12], *(content[place : place + 4] for place in range(16, 64, 4))]
        found = next((BRANDS[brand] for brand in brands if brand in BRANDS), None)
        return HEIC if found is None and brands[0] in (b"mif1", b"msf1") else found
    if content[128:132] == b"DICM":
        return DICOM
    return next((kind for signature, kind in SIGNATURES.items() if content.startswith(signature)), None)


def of(content: bytes, path: str | os.PathLike[str]) -> Kind | None:
    """The kind of a file: by its content, and by its name where the content cannot say it."""
    known, named = by_content(content), by_name(path)
    if known is TIFF and named is not None and named.way_out:
        return named  # A camera's or a microscope's: a TIFF with a preview and with data that OpenCV cannot read.
    # Files from before 1993, and what some programs write: no preamble, but the first group of elements.
    without_preamble = named is DICOM and content[:2] in (b"\x02\0", b"\x08\0")
    return named if known is None and named is not None and (named.way_out or without_preamble) else known


def complaint(known: Kind | None) -> str:
    """Why a file of a kind was not read."""
    if known is None:
        return NOT_AN_IMAGE
    return f"{known.a_file}; {known.way_out}" if known.way_out else f"{known.a_file}, truncated or damaged"


def meant_as_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name says that it is an image, whether or not it can be read here."""
    return by_name(path) is not None


def needs(kind: Kind) -> str:
    """The reason for not reading a kind whose package is not installed."""
    return f"{kind.a_file}; pip install 'keras_vision[{kind.extra[0] if kind.extra else ''}]' reads it"
