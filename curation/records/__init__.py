"""RecordIO and the insightface layout: frames, index, images, and writers."""
