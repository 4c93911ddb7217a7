"""Names of columns, files and modes, as V1 spells them; exported as `FD`."""

from __future__ import annotations

from fastdup_dagster import formats as _formats

# columns of annotations
ANNOT_FILENAME = "filename"
ANNOT_CROP_FILENAME = "crop_filename"
ANNOT_IMG_ID = "img_id"
ANNOT_IMG_H = "img_h"
ANNOT_IMG_W = "img_w"
ANNOT_BBOX_X = "col_x"
ANNOT_BBOX_Y = "row_y"
ANNOT_BBOX_W = "width"
ANNOT_BBOX_H = "height"
ANNOT_ROT_BBOX_X1 = "x1"
ANNOT_ROT_BBOX_Y1 = "y1"
ANNOT_ROT_BBOX_X2 = "x2"
ANNOT_ROT_BBOX_Y2 = "y2"
ANNOT_ROT_BBOX_X3 = "x3"
ANNOT_ROT_BBOX_Y3 = "y3"
ANNOT_ROT_BBOX_X4 = "x4"
ANNOT_ROT_BBOX_Y4 = "y4"
ANNOT_SPLIT = "split"
ANNOT_ERROR = "error_code"
ANNOT_LABEL = "label"
ANNOT_VALID = "is_valid"
ANNOT_FD_ID = "index"

# columns of results
CC_INST_ID = "index"
BAD_FILENAME = "filename"
BAD_ERROR = "error_code"
BAD_FD_ID = "index"
SIM_SRC_IMG = "from"
SIM_DST_IMG = "to"
SIM_SCORE = "distance"
OUT_ID = "outlier"
OUT_NEAREST_NEIGHBOR = "nearest"
OUT_SCORE = "distance"
STATS_INST_ID = "index"
MAP_INST_ID = "index"
MAP_FILENAME = "filename"

# kinds of data and how instances are made
IMG = "image"
BBOX = "bbox"
MODE_DEFAULT = "default"
MODE_EMBEDDING = "embedding"
MODE_CROP = "crop"
MODE_ROTATED_BBOX = "rotated"

# error codes that V1 names
ERROR_MISSING_IMAGE = "MISSING_FILE"
ERROR_BAD_BOUNDING_BOX = "BAD_BOUNDING_BOX"
VALID = "VALID"
MISSING_LABEL = "N/A"

# files of `export_v1`
MAPPING_CSV = "atrain_features.dat.csv"
BAD_CSV = "atrain_features.bad.csv"
FEATURES_DATA = "atrain_features.dat"
STATS_CSV = "atrain_stats.csv"
CONFIG_JSON = "config.json"
CROPS_CSV = "atrain_crops.csv"
FILENAME_SIMILARITY = "similarity.csv"
FILENAME_OUTLIERS = "outliers.csv"
FILENAME_COMPONENT_INFO = "component_info.csv"
FILENAME_CONNECTED_COMPONENTS = "connected_components.csv"
FILENAME_DUPLICATES_HTML = "duplicates.html"
FILENAME_OUTLIERS_HTML = "outliers.html"
FILENAME_COMPONENTS_HTML = "components.html"

# the same files by the names of V1's functions before its classes, one of them misspelled there
FILENAME_FEATURES = FEATURES_DATA
FILENAME_IMAGE_LIST = MAPPING_CSV
FILENANE_BAD_IMAGE_LIST = BAD_CSV
FILENAME_IMAGE_STATS = STATS_CSV
FILENAME_CROP_LIST = CROPS_CSV
IMAGELIST_HEADER = [MAP_INST_ID, MAP_FILENAME]
SIMILARITY_HEADER = [SIM_SRC_IMG, SIM_DST_IMG, SIM_SCORE]

# statistics of every image
ALLOWED_STATS = ["img_w", "img_h", "unique", "blur", "mean", "min", "max", "stdv", "file_size", "contrast"]

# what is taken for an image or a video by its name
SUPPORTED_IMG_FORMATS = sorted(f".{extension}" for extension in _formats.IMAGE_EXTENSIONS)
SUPPORTED_VID_FORMATS = sorted(f".{extension}" for extension in _formats.VIDEO_EXTENSIONS)

# widths of feature vectors
DEFAULT_MODEL_FEATURE_WIDTH = 576
HIGH_ACCURACY_MODEL_FEATURE_WIDTH = 960

# reserved names of models and detectors, and the width of their vectors
DINOV2S_MODEL, DINOV2S_MODEL_DIM = "dinov2s", 384
DINOV2B_MODEL, DINOV2B_MODEL_DIM = "dinov2b", 768
CLIP_MODEL, CLIP_MODEL_DIM = "clip", 512
CLIP_MODEL2, CLIP_MODEL2_DIM = "clip336", 768
RESNET50_MODEL, RESNET50_MODEL_DIM = "resnet50", 1000
EFFICIENTNET_MODEL, EFFICIENTNET_MODEL_DIM = "efficientnet", 1000
YOLOV5S_MODEL = "yolov5s"

BBOX_COLUMNS = (ANNOT_BBOX_X, ANNOT_BBOX_Y, ANNOT_BBOX_W, ANNOT_BBOX_H)
ROTATED_BBOX_COLUMNS = (
    ANNOT_ROT_BBOX_X1,
    ANNOT_ROT_BBOX_Y1,
    ANNOT_ROT_BBOX_X2,
    ANNOT_ROT_BBOX_Y2,
    ANNOT_ROT_BBOX_X3,
    ANNOT_ROT_BBOX_Y3,
    ANNOT_ROT_BBOX_X4,
    ANNOT_ROT_BBOX_Y4,
)
