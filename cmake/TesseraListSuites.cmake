# Run after a test program is linked: writes one add_test() a suite into a file that ctest includes. A process that
# loads LibTorch takes half a second to start, which a process a test would pay more than a thousand times over.
#
# Suites called Soak... take long: they run only when asked for (ctest -L soak).
#
#   cmake -DPROGRAM=<path> -DNAME=<target> -DOUTPUT=<file> -P TesseraListSuites.cmake

# The longest suites, longest first: they start first, so that none is left alone at the end.
set(longest RankProcesses Layouts/ContextParity MultiRank Schedules/ScheduleParity Layouts/Parity ContextParityOfMasks
  RankLaunchers Layouts/DocumentBalancerParity FlexAttentionTest TrainJobTest MaskCommand CheckpointLayouts
  ContextAttentionTest CliTest Layouts/ExtrasParity Layouts/EstimateOfRun LaunchCommand FlexBf16Test ScheduleCommand)

execute_process(COMMAND "${PROGRAM}" --gtest_list_tests OUTPUT_VARIABLE listed RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} --gtest_list_tests: ${status}")
endif()

# Suites stand at the start of a line and end with a dot; their tests are indented.
string(REGEX MATCHALL "\n[^ \n][^ \n]*\\." suites "\n${listed}")
set(script "")
foreach(suite IN LISTS suites)
  string(STRIP "${suite}" suite)
  string(REGEX REPLACE "\\.$" "" suite "${suite}")
  list(FIND longest "${suite}" place)
  set(cost 0)
  if(NOT place EQUAL -1)
    math(EXPR cost "100 - ${place}")
  endif()
  set(labels "")
  if(suite MATCHES "(^|/)Soak")
    set(labels " LABELS soak")
  endif()
  string(APPEND script "add_test([==[${NAME}.${suite}]==] [==[${PROGRAM}]==] [==[--gtest_filter=${suite}.*]==] "
    "--gtest_brief=1)\n"
    # Threads that spin while they wait make tests that share two cores many times slower.
    "set_tests_properties([==[${NAME}.${suite}]==] PROPERTIES TIMEOUT 600 COST ${cost} ENVIRONMENT OMP_WAIT_POLICY=passive${labels})\n")
endforeach()
file(WRITE "${OUTPUT}" "${script}")
