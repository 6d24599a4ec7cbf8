// How the functions here tell that they failed: they give null, or why in a text that lasts until
// the thread's next call. Nothing is thrown.

#pragma once

#include <exception>
#include <string>

#include <c10/util/Exception.h>

template <class Work> inline const char *guarded(Work work) noexcept
{
    thread_local std::string reason;
    try {
        try {
            work();
            return nullptr;
        } catch (const c10::Error &error) {
            reason = error.what_without_backtrace();
        } catch (const std::exception &error) {
            reason = error.what();
        }
        return reason.c_str();
    } catch (...) {
        return "no memory, or an exception of an unknown kind";
    }
}
