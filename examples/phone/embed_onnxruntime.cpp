// Compares two faces with the ONNX file of a bundle, through ONNX Runtime's C API.
//
//   g++ -O2 -std=c++17 embed_onnxruntime.cpp -I$ORT/include -L$ORT/lib -lonnxruntime -o compare
//   ./compare BUNDLE THRESHOLD left.ppm x y (5 times) right.ppm x y (5 times)
//
// $ORT is an unpacked release of ONNX Runtime.
#include <onnxruntime_c_api.h>

#include <cstdint>
#include <cstdio>

#include "face.hpp"

static const OrtApi* api = OrtGetApiBase()->GetApi(ORT_API_VERSION);

static void check(OrtStatus* status) {
    if (status != nullptr) throw std::runtime_error(api->GetErrorMessage(status));
}

int main(int count, char** words) try {
    if (count != 25) {
        std::fprintf(stderr, "usage: compare BUNDLE THRESHOLD LEFT X Y... RIGHT X Y...\n");
        return 2;
    }
    OrtEnv* environment = nullptr;
    OrtSessionOptions* options = nullptr;
    OrtSession* session = nullptr;
    OrtMemoryInfo* memory = nullptr;
    check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "faces", &environment));
    check(api->CreateSessionOptions(&options));
    const std::string model = std::string(words[1]) + "/model.onnx";
    check(api->CreateSession(environment, model.c_str(), options, &session));
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    const auto run = [&](std::vector<float> input) {
        const int64_t shape[] = {1, 3, contract::inputHeight, contract::inputWidth};
        OrtValue *image = nullptr, *embedding = nullptr;
        check(api->CreateTensorWithDataAsOrtValue(memory, input.data(),
                                                  input.size() * sizeof(float), shape, 4,
                                                  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &image));
        const char *from = "image", *to = "embedding";
        check(api->Run(session, nullptr, &from, &image, 1, &to, 1, &embedding));
        float* numbers = nullptr;
        check(api->GetTensorMutableData(embedding, reinterpret_cast<void**>(&numbers)));
        OrtTensorTypeAndShapeInfo* form = nullptr;
        size_t length = 0;
        check(api->GetTensorTypeAndShape(embedding, &form));
        check(api->GetTensorShapeElementCount(form, &length));
        api->ReleaseTensorTypeAndShapeInfo(form);
        if (length != contract::embeddingLength)
            throw std::runtime_error("contract.hpp is not of this bundle; write it again");
        std::vector<float> found(numbers, numbers + contract::embeddingLength);
        api->ReleaseValue(image);
        api->ReleaseValue(embedding);
        return found;
    };
    const auto left = feature(read_ppm(words[3]), read_points(words + 4), run);
    const auto right = feature(read_ppm(words[14]), read_points(words + 15), run);
    const double found = cosine(left, right);
    std::printf("%.6f %s\n", found, found > std::stod(words[2]) ? "same person" : "different");
    api->ReleaseMemoryInfo(memory);
    api->ReleaseSession(session);
    api->ReleaseSessionOptions(options);
    api->ReleaseEnv(environment);
} catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
