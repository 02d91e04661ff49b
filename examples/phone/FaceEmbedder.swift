// A face on iOS: RGBA bytes of an image and five points in, a feature of unit length out.
//
// Add the bundle's CoreML model to the target; Contract.swift is written by contract.py from
// config.json. The model's input is `image` [1, 3, H, W], its output `embedding` [1, D].
import CoreML

struct Picture {
    let width: Int, height: Int
    let rgba: [UInt8]
}

enum FaceError: Error {
    case pointsAtOnePlace
}

final class FaceEmbedder {
    private let model: MLModel

    init(model: MLModel) { self.model = model }

    // points: x, y of left eye, right eye, nose, left and right corner of the mouth, as seen.
    func feature(_ picture: Picture, points: [Float]) throws -> [Float] {
        var sum = try run(networkInput(picture, points, mirrored: false))
        if Contract.addMirrored {
            let other = try run(networkInput(picture, points, mirrored: true))
            for i in sum.indices { sum[i] += other[i] }
        }
        let length = sum.reduce(Float(0)) { $0 + $1 * $1 }.squareRoot()
        return sum.map { $0 / length }
    }

    // The same person if this is above a threshold of thresholds.json.
    func cosine(_ left: [Float], _ right: [Float]) -> Float {
        zip(left, right).reduce(0) { $0 + $1.0 * $1.1 }
    }

    private func run(_ input: [Float]) throws -> [Float] {
        let shape = [1, 3, Contract.inputHeight, Contract.inputWidth] as [NSNumber]
        let image = try MLMultiArray(shape: shape, dataType: .float32)
        for (i, value) in input.enumerated() { image[i] = NSNumber(value: value) }
        let given = try MLDictionaryFeatureProvider(dictionary: ["image": image])
        let answer = try model.prediction(from: given).featureValue(for: "embedding")!.multiArrayValue!
        return (0..<Contract.embeddingLength).map { answer[$0].floatValue }
    }

    private func networkInput(_ picture: Picture, _ points: [Float], mirrored: Bool) throws -> [Float] {
        // The least-squares similarity from the image to the template: w -> a w + b.
        func mean(_ at: [Float], _ axis: Int) -> Double {
            (0..<5).reduce(0.0) { $0 + Double(at[2 * $1 + axis]) } / 5
        }
        let to = Contract.points
        let (fromX, fromY, toX, toY) = (mean(points, 0), mean(points, 1), mean(to, 0), mean(to, 1))
        var (real, imaginary, spread) = (0.0, 0.0, 0.0)
        for i in 0..<5 {
            let (x, y) = (Double(points[2 * i]) - fromX, Double(points[2 * i + 1]) - fromY)
            let (u, v) = (Double(to[2 * i]) - toX, Double(to[2 * i + 1]) - toY)
            real += x * u + y * v
            imaginary += x * v - y * u
            spread += x * x + y * y
        }
        guard spread > 0 else { throw FaceError.pointsAtOnePlace }
        let (ar, ai) = (real / spread, imaginary / spread)
        let (bx, by) = (toX - (ar * fromX - ai * fromY), toY - (ai * fromX + ar * fromY))
        let area = ar * ar + ai * ai
        let (height, width) = (Contract.inputHeight, Contract.inputWidth)
        let down = Double(Contract.cropHeight) / Double(height)
        let across = Double(Contract.cropWidth) / Double(width)
        // As many samples per side as the image has pixels there: a large face is averaged.
        let samples = min(max(Int((max(down, across) / area.squareRoot()).rounded()), 1), 16)
        var input = [Float](repeating: 0, count: 3 * height * width)
        for row in 0..<height {
            for column in 0..<width {
                var sums = [0.0, 0.0, 0.0]
                for i in 0..<(samples * samples) {
                    let (right, below) = (Double(i % samples) + 0.5, Double(i / samples) + 0.5)
                    let x = Double(Contract.cropLeft) - 0.5 - bx
                        + (Double(column) + right / Double(samples)) * across
                    let y = Double(Contract.cropTop) - 0.5 - by
                        + (Double(row) + below / Double(samples)) * down
                    add(picture, (ar * x + ai * y) / area, (ar * y - ai * x) / area, &sums)
                }
                let at = mirrored ? width - 1 - column : column
                for place in 0..<3 {
                    let channel = Contract.blueFirst ? 2 - place : place
                    let value = (sums[channel] / Double(samples * samples)).rounded()
                    input[(place * height + row) * width + at] =
                        (Float(value) - Contract.mean[place]) / Contract.std[place]
                }
            }
        }
        return input
    }

    // The colour between pixels, interpolated: red, green, blue; black outside.
    private func add(_ picture: Picture, _ x: Double, _ y: Double, _ sums: inout [Double]) {
        let (left, top) = (Int(x.rounded(.down)), Int(y.rounded(.down)))
        for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            let (column, row) = (left + dx, top + dy)
            guard (0..<picture.width).contains(column), (0..<picture.height).contains(row) else { continue }
            let (inX, inY) = (x - Double(left), y - Double(top))
            let weight = (dx == 1 ? inX : 1 - inX) * (dy == 1 ? inY : 1 - inY)
            for channel in 0..<3 {
                sums[channel] += weight * Double(picture.rgba[(row * picture.width + column) * 4 + channel])
            }
        }
    }
}
