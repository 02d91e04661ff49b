// A face on Android: a bitmap and five points in, a feature of unit length out.
//
// `network` runs the bundle's model: onnxNetwork(context) of OnnxNetwork.kt, or liteRtNetwork(context)
// of LiteRtNetwork.kt. Contract.kt is written by contract.py from config.json.
import android.graphics.Bitmap
import kotlin.math.floor
import kotlin.math.hypot
import kotlin.math.max
import kotlin.math.roundToInt
import kotlin.math.sqrt

// Normalised pixels [1, 3, H, W] to a raw embedding.
typealias Network = (FloatArray) -> FloatArray

class FaceEmbedder(private val network: Network) {
    // points: x, y of left eye, right eye, nose, left and right corner of the mouth, as seen.
    fun feature(picture: Bitmap, points: FloatArray): FloatArray {
        val sum = network(networkInput(picture, points, false))
        if (Contract.addMirrored) {
            val other = network(networkInput(picture, points, true))
            for (i in sum.indices) sum[i] += other[i]
        }
        val length = sqrt(sum.sumOf { it.toDouble() * it })
        return FloatArray(sum.size) { (sum[it] / length).toFloat() }
    }

    // The same person if this is above a threshold of thresholds.json.
    fun cosine(left: FloatArray, right: FloatArray) =
        left.indices.sumOf { left[it].toDouble() * right[it] }

    private fun networkInput(picture: Bitmap, points: FloatArray, mirrored: Boolean): FloatArray {
        val pixels = IntArray(picture.width * picture.height)
        picture.getPixels(pixels, 0, picture.width, 0, 0, picture.width, picture.height)
        // The least-squares similarity from the image to the template: w -> a w + b.
        val to = Contract.points
        val mean = { at: FloatArray, axis: Int -> (0 until 5).sumOf { at[2 * it + axis].toDouble() } / 5 }
        val (fromX, fromY) = mean(points, 0) to mean(points, 1)
        val (toX, toY) = mean(to, 0) to mean(to, 1)
        var real = 0.0
        var imaginary = 0.0
        var spread = 0.0
        for (i in 0 until 5) {
            val (x, y) = points[2 * i] - fromX to points[2 * i + 1] - fromY
            val (u, v) = to[2 * i] - toX to to[2 * i + 1] - toY
            real += x * u + y * v
            imaginary += x * v - y * u
            spread += x * x + y * y
        }
        require(spread > 0) { "the five points are all at one place" }
        val (ar, ai) = real / spread to imaginary / spread
        val (bx, by) = toX - (ar * fromX - ai * fromY) to toY - (ai * fromX + ar * fromY)
        val scale = hypot(ar, ai)
        val (height, width) = Contract.inputHeight to Contract.inputWidth
        val down = Contract.cropHeight.toDouble() / height
        val across = Contract.cropWidth.toDouble() / width
        // As many samples per side as the image has pixels there: a large face is averaged.
        val samples = (max(down, across) / scale).roundToInt().coerceIn(1, 16)
        val input = FloatArray(3 * height * width)
        for (row in 0 until height) for (column in 0 until width) {
            val sums = DoubleArray(3)
            for (i in 0 until samples * samples) {
                val x = Contract.cropLeft - 0.5 + (column + (i % samples + 0.5) / samples) * across - bx
                val y = Contract.cropTop - 0.5 + (row + (i / samples + 0.5) / samples) * down - by
                val there = (ar * x + ai * y) / (scale * scale) to (ar * y - ai * x) / (scale * scale)
                add(pixels, picture.width, picture.height, there.first, there.second, sums)
            }
            val at = if (mirrored) width - 1 - column else column
            for (place in 0 until 3) {
                val channel = if (Contract.blueFirst) 2 - place else place
                val value = (sums[channel] / (samples * samples)).roundToInt()
                input[(place * height + row) * width + at] =
                    (value - Contract.mean[place]) / Contract.std[place]
            }
        }
        return input
    }

    // The colour between pixels, interpolated: red, green, blue; black outside.
    private fun add(pixels: IntArray, width: Int, height: Int, x: Double, y: Double, sums: DoubleArray) {
        val (left, top) = floor(x).toInt() to floor(y).toInt()
        for (dy in 0..1) for (dx in 0..1) {
            val (column, row) = left + dx to top + dy
            if (column !in 0 until width || row !in 0 until height) continue
            val weight = (if (dx == 1) x - left else 1 - (x - left)) * (if (dy == 1) y - top else 1 - (y - top))
            val colour = pixels[row * width + column]
            for (channel in 0..2) sums[channel] += weight * (colour shr (16 - 8 * channel) and 255)
        }
    }
}
