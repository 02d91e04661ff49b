// Writes the network's input to standard output as float32, to compare with a reference.
//
//   g++ -O2 -std=c++17 print_input.cpp -o print_input
//   ./print_input plain|mirrored photo.ppm x y (5 times) > input.f32
#include <cstdio>

#include "face.hpp"

int main(int count, char** words) try {
    if (count != 13) {
        std::fprintf(stderr, "usage: print_input plain|mirrored IMAGE X Y...\n");
        return 2;
    }
    const bool mirrored = std::string(words[1]) == "mirrored";
    const auto input = network_input(read_ppm(words[2]), read_points(words + 3), mirrored);
    return std::fwrite(input.data(), sizeof(float), input.size(), stdout) != input.size();
} catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
