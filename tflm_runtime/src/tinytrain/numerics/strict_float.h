// Include it first in every .cpp that computes with floats: results are the same on x86-64 and on a Cortex-M4F.
//
// By default g++ contracts a * b + c into one fused operation where the target has one, which rounds once instead of twice. A
// library cannot choose the flags of an Arduino build, so -ffp-contract=off stands here.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif
