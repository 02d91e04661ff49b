// by contract.py, from config.json
#pragma once
namespace contract {
constexpr int inputHeight = 112;
constexpr int inputWidth = 112;
constexpr int cropTop = 0;
constexpr int cropLeft = 0;
constexpr int cropHeight = 112;
constexpr int cropWidth = 112;
constexpr int embeddingLength = 128;
constexpr bool blueFirst = false;
constexpr bool addMirrored = true;
constexpr float mean[] = {127.5f, 127.5f, 127.5f};
constexpr float std[] = {127.5f, 127.5f, 127.5f};
constexpr float points[] = {38.2946f, 51.6963f, 73.5318f, 51.5014f, 56.0252f, 71.7366f, 41.5493f, 92.3655f, 70.7299f, 92.2041f};
}  // namespace contract
