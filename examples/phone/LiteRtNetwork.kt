// The bundle's model.tflite on Android, for FaceEmbedder.
//
// build.gradle: implementation("com.google.ai.edge.litert:litert:1.0.1")
// assets: model.tflite
import android.content.Context
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.Interpreter

fun liteRtNetwork(context: Context): Network {
    val bytes = context.assets.open("model.tflite").use { it.readBytes() }
    val model = ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder())
    model.put(bytes).rewind()
    val interpreter = Interpreter(model)
    val pixels = 3 * Contract.inputHeight * Contract.inputWidth
    val image = ByteBuffer.allocateDirect(pixels * Float.SIZE_BYTES).order(ByteOrder.nativeOrder())
    return { input ->
        image.rewind()
        image.asFloatBuffer().put(input)
        val embedding = Array(1) { FloatArray(Contract.embeddingLength) }
        interpreter.run(image, embedding)
        embedding[0]
    }
}
