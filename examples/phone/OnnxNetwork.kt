// The bundle's model.onnx on Android, for FaceEmbedder.
//
// build.gradle: implementation("com.microsoft.onnxruntime:onnxruntime-android:1.20.0")
// assets: model.onnx
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import android.content.Context
import java.nio.FloatBuffer

fun onnxNetwork(context: Context): Network {
    val environment = OrtEnvironment.getEnvironment()
    val session = environment.createSession(
        context.assets.open("model.onnx").use { it.readBytes() }
    )
    val shape = longArrayOf(1, 3, Contract.inputHeight.toLong(), Contract.inputWidth.toLong())
    return { input ->
        OnnxTensor.createTensor(environment, FloatBuffer.wrap(input), shape).use { image ->
            session.run(mapOf("image" to image)).use { answer ->
                @Suppress("UNCHECKED_CAST")
                (answer[0].value as Array<FloatArray>)[0]
            }
        }
    }
}
