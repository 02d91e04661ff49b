// by contract.py, from config.json
object Contract {
    const val inputHeight = 112
    const val inputWidth = 112
    const val cropTop = 0
    const val cropLeft = 0
    const val cropHeight = 112
    const val cropWidth = 112
    const val embeddingLength = 128
    const val blueFirst = false
    const val addMirrored = true
    val mean = floatArrayOf(127.5f, 127.5f, 127.5f)
    val std = floatArrayOf(127.5f, 127.5f, 127.5f)
    val points = floatArrayOf(38.2946f, 51.6963f, 73.5318f, 51.5014f, 56.0252f, 71.7366f, 41.5493f, 92.3655f, 70.7299f, 92.2041f)
}
