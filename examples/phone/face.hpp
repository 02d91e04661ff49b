// From an image and five points to a network's input, and from its outputs to a decision.
// Needs C++17 and nothing else; contract.hpp has the constants of the bundle.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "contract.hpp"

struct Picture {  // RGB, row by row
    int width = 0, height = 0;
    std::vector<unsigned char> bytes;
};

// A binary PPM file (P6): `djpeg photo.jpg > photo.ppm`.
inline Picture read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    int most = 0;
    Picture picture;
    file >> kind >> picture.width >> picture.height >> most;
    if (!file || kind != "P6" || most != 255 || picture.width < 1 || picture.height < 1 ||
        picture.width > 8192 || picture.height > 8192)
        throw std::runtime_error(path + ": not a binary PPM file of 8 bits");
    file.get();
    picture.bytes.resize(size_t(picture.width) * picture.height * 3);
    if (!file.read(reinterpret_cast<char*>(picture.bytes.data()), picture.bytes.size()))
        throw std::runtime_error(path + ": cut short");
    return picture;
}

// The least-squares similarity that brings five points (x, y) to the template: w -> a w + b.
struct Similarity {
    std::complex<double> a, b;
};

inline Similarity similarity(const std::array<float, 10>& points) {
    std::complex<double> from = 0, to = 0, sum = 0;
    double spread = 0;
    auto point = [](const float* at, int i) {
        return std::complex<double>(at[2 * i], at[2 * i + 1]);
    };
    for (int i = 0; i < 5; i++) {
        from += point(points.data(), i) / 5.0;
        to += point(contract::points, i) / 5.0;
    }
    for (int i = 0; i < 5; i++) {
        const auto w = point(points.data(), i) - from;
        sum += std::conj(w) * (point(contract::points, i) - to);
        spread += std::norm(w);
    }
    if (!(spread > 0)) throw std::runtime_error("the five points are all at one place");
    const auto a = sum / spread;
    return {a, to - a * from};
}

// The colour between pixels, interpolated; black outside.
inline float pixel(const Picture& picture, double x, double y, int channel) {
    const int left = int(std::floor(x)), top = int(std::floor(y));
    double value = 0;
    for (int dy = 0; dy < 2; dy++)
        for (int dx = 0; dx < 2; dx++) {
            const int column = left + dx, row = top + dy;
            if (column < 0 || row < 0 || column >= picture.width || row >= picture.height) continue;
            const double weight = (dx ? x - left : 1 - (x - left)) * (dy ? y - top : 1 - (y - top));
            value += weight * picture.bytes[(size_t(row) * picture.width + column) * 3 + channel];
        }
    return float(value);
}

// The network's input, [3, H, W]: aligned, cropped, scaled, normalised; mirrored on request.
inline std::vector<float> network_input(const Picture& picture, const std::array<float, 10>& points,
                                        bool mirrored) {
    const auto [a, b] = similarity(points);
    const double down = double(contract::cropHeight) / contract::inputHeight;  // of the template
    const double across = double(contract::cropWidth) / contract::inputWidth;
    // As many samples per side as the image has pixels there, so that a large face is averaged.
    const int samples = std::clamp(int(std::lround(std::max(down, across) / std::abs(a))), 1, 16);
    const int height = contract::inputHeight, width = contract::inputWidth;
    std::vector<float> input(size_t(3) * height * width);
    for (int row = 0; row < height; row++)
        for (int column = 0; column < width; column++)
            for (int place = 0; place < 3; place++) {
                const int channel = contract::blueFirst ? 2 - place : place;
                double sum = 0;
                for (int i = 0; i < samples * samples; i++) {
                    const double x = contract::cropLeft - 0.5 +
                                     (column + (i % samples + 0.5) / samples) * across;
                    const double y = contract::cropTop - 0.5 +
                                     (row + (i / samples + 0.5) / samples) * down;
                    const auto there = (std::complex<double>(x, y) - b) / a;
                    sum += pixel(picture, there.real(), there.imag(), channel);
                }
                const double value = std::round(sum / (samples * samples));
                const int at = mirrored ? width - 1 - column : column;
                input[(size_t(place) * height + row) * width + at] =
                    float((value - contract::mean[place]) / contract::std[place]);
            }
    return input;
}

// The feature that is compared, of unit length; `run` turns an input into an embedding.
template <typename Run>
std::vector<float> feature(const Picture& picture, const std::array<float, 10>& points, Run run) {
    std::vector<float> sum = run(network_input(picture, points, false));
    if (contract::addMirrored) {
        const std::vector<float> other = run(network_input(picture, points, true));
        for (size_t i = 0; i < sum.size(); i++) sum[i] += other[i];
    }
    double length = 0;
    for (const float value : sum) length += double(value) * value;
    for (float& value : sum) value = float(value / std::sqrt(length));
    return sum;
}

// The same person if this is above a threshold of thresholds.json.
inline double cosine(const std::vector<float>& left, const std::vector<float>& right) {
    double sum = 0;
    for (size_t i = 0; i < left.size(); i++) sum += double(left[i]) * right[i];
    return sum;
}

inline std::array<float, 10> read_points(char** words) {
    std::array<float, 10> points;
    for (int i = 0; i < 10; i++) points[i] = std::stof(words[i]);
    return points;
}
