// by contract.py, from config.json
enum Contract {
    static let inputHeight = 112
    static let inputWidth = 112
    static let cropTop = 0
    static let cropLeft = 0
    static let cropHeight = 112
    static let cropWidth = 112
    static let embeddingLength = 128
    static let blueFirst = false
    static let addMirrored = true
    static let mean: [Float] = [127.5, 127.5, 127.5]
    static let std: [Float] = [127.5, 127.5, 127.5]
    static let points: [Float] = [38.2946, 51.6963, 73.5318, 51.5014, 56.0252, 71.7366, 41.5493, 92.3655, 70.7299, 92.2041]
}
