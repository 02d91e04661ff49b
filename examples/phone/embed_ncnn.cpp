// Compares two faces with the ncnn files of a bundle.
//
//   g++ -O2 -std=c++17 embed_ncnn.cpp -lncnn -fopenmp -o compare
//   ./compare BUNDLE THRESHOLD left.ppm x y (5 times) right.ppm x y (5 times)
#include <ncnn/net.h>

#include <cstdio>

#include "face.hpp"

int main(int count, char** words) try {
    if (count != 25) {
        std::fprintf(stderr, "usage: compare BUNDLE THRESHOLD LEFT X Y... RIGHT X Y...\n");
        return 2;
    }
    const std::string bundle = words[1];
    ncnn::Net net;
    // Otherwise, some processors round to float16 or bfloat16.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = false;
    net.opt.use_bf16_storage = false;
    if (net.load_param((bundle + "/model.ncnn.param").c_str()) ||
        net.load_model((bundle + "/model.ncnn.bin").c_str()))
        throw std::runtime_error(bundle + ": ncnn cannot load its model.ncnn.param and .bin");
    const auto run = [&net](const std::vector<float>& input) {
        ncnn::Mat image(contract::inputWidth, contract::inputHeight, 3);
        const size_t plane = size_t(contract::inputWidth) * contract::inputHeight;
        for (int channel = 0; channel < 3; channel++)  // ncnn pads its planes
            std::copy_n(input.data() + channel * plane, plane, (float*)image.channel(channel));
        ncnn::Extractor extractor = net.create_extractor();
        ncnn::Mat output;
        if (extractor.input("in0", image) || extractor.extract("out0", output))
            throw std::runtime_error("ncnn cannot run the model");
        if (output.total() * output.elempack != contract::embeddingLength)
            throw std::runtime_error("contract.hpp is not of this bundle; write it again");
        return std::vector<float>((float*)output, (float*)output + contract::embeddingLength);
    };
    const auto left = feature(read_ppm(words[3]), read_points(words + 4), run);
    const auto right = feature(read_ppm(words[14]), read_points(words + 15), run);
    const double found = cosine(left, right);
    std::printf("%.6f %s\n", found, found > std::stod(words[2]) ? "same person" : "different");
} catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
