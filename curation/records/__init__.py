"""RecordIO and the insightface layout in it: frames, index, images, and writing them."""
