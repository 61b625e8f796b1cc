# Installs the program, builds docs/examples against the installation, scores a Hugging Face folder with a program of its
# own, and trains two steps with a custom attention and tokenizer.
#   cmake -DSOURCE_DIR=<root> -DBUILD_DIR=<build tree> -P tests/out_of_tree_test.cmake

cmake_minimum_required(VERSION 3.22)
set(work "${BUILD_DIR}/out_of_tree")
set(prefix "${work}/prefix")
file(REMOVE_RECURSE "${work}")
file(MAKE_DIRECTORY "${work}")

# run(<what> <regular expression in the output> command...): must succeed.
function(run what expected)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY "${work}"
    RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0 OR NOT output MATCHES "${expected}")
    message(FATAL_ERROR "${what}: status ${status}, expected 0 and \"${expected}\" in\n${output}")
  endif()
endfunction()

run("install" "" "${CMAKE_COMMAND}" --install "${BUILD_DIR}" --prefix "${prefix}")
run("configure" "" "${CMAKE_COMMAND}" -G Ninja -S "${SOURCE_DIR}/docs/examples" -B "${work}/build"
  "-DCMAKE_PREFIX_PATH=${prefix}")
run("build" "" "${CMAKE_COMMAND}" --build "${work}/build")

# Case llama/plain of tests/golden/models, its first row: transformers' mean loss is 6.400416.
run("score" "token +51  loss +9\\.1968\n.*mean loss 6\\.4004\n" "${work}/build/score_folder"
  "${SOURCE_DIR}/tests/golden/models/llama"
  138 51 189 18 51 45 97 48 28 107 93 37 46 110 170 161 111 57 161 106 25 95 115 168)

set(program "${prefix}/bin/tessera")
set(library "${work}/build/libcustom_attention.so")
set(tokenizer_library "${work}/build/libcustom_tokenizer.so")
run("list" "tempered\n  flex attention with a temperature\n  mask form  small_tiles\n.*arguments  temperature=1\n"
  "${program}" attention --custom_import "${library}")

foreach(i RANGE 1 12)
  file(WRITE "${work}/data/file_${i}.cpp" "int first_${i} = ${i};\nint second_${i} = ${i};\nint third_${i} = ${i};\n")
endforeach()
file(WRITE "${work}/job.toml" "
[job]
dump_folder = \"${work}/out\"
[model]
attention = \"tempered(temperature=0.5)\"
tokenizer = \"ascii\"
[training]
dataset = \"text_files\"
dataset_path = \"${work}/data\"
local_batch_size = 2
seq_len = 48
steps = 2
mixed_precision_param = \"float32\"
[lr_scheduler]
warmup_steps = 1
[activation_checkpoint]
mode = \"none\"
[experimental]
custom_import = \"${library},${tokenizer_library}\"
")
run("train" "tokenizer +ascii \\(129 ids\\).*attention: tempered \\(block-sparse, [a-z0-9]+\\) for q \\[2, 48, 16, 16\\].*step: +2 "
  "${program}" train --config job.toml --metrics.log_freq 1)

# Misspelt names are refused before anything runs.
function(refused what expected)
  execute_process(COMMAND "${program}" train --config job.toml ${ARGN}
    WORKING_DIRECTORY "${work}" RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 1 OR NOT output MATCHES "${expected}")
    message(FATAL_ERROR "${what}: status ${status}, expected 1 and the names there are in\n${output}")
  endif()
endfunction()
refused("misspelt argument" "\"temprature\", expected one of: temperature" --model.attention "tempered(temprature=1)")
refused("misspelt tokenizer" "\"asci\", expected one of: auto, bytes, ascii" --model.tokenizer asci)
file(REMOVE_RECURSE "${work}")
